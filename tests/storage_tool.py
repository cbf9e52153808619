# SPDX-License-Identifier: Apache-2.0
"""A stand-in for a storage tool, by whose name it is called. Its state is in the folder that STAND_IN names.

Knobs are files in its folder `knobs`: TOOL.hang (its text: only with this first word), TOOL.fail (its text
is the complaint), and `busy`: what is mounted cannot be unmounted. What the tools print, and where that is documented:

- mmgetstate -Y: IBM Storage Scale, "mmgetstate command", option -Y: fields with colons, named by a HEADER line.
- mmumount, mmshutdown: the same guide; mmshutdown stops the daemon "anyway" when it could not unmount.
- umount: util-linux, sys-utils/umount.c: "target is busy", exit status 32.
- systemctl show: systemctl(1); blocks of KEY=VALUE with a blank line between. A failed job: two lines on stderr.
- lctl get_param *.*.import: Lustre Operations Manual, "Lustre Parameters": name=, then YAML.
"""

# ruff: noqa: PTH105, PTH110, PTH119, PTH123 - importing pathlib takes longer than all the rest

import json
import os
import sys
import time

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Any, NoReturn

STATE = os.environ["STAND_IN"]
ME = os.path.basename(sys.argv[0])
WORDS = sys.argv[1:]
MOUNTINFO = f"{STATE}/proc/self/mountinfo"


def load(name: str) -> "Any":
    with open(f"{STATE}/{name}.json") as text:
        return json.load(text)


def save(name: str, value: "Any") -> None:
    with open(f"{STATE}/{name}.json", "w") as text:
        json.dump(value, text)


def has(knob: str) -> bool:
    return os.path.exists(f"{STATE}/knobs/{knob}")


def fail(*lines: str, status: int = 1) -> "NoReturn":
    for line in lines:
        print(line, file=sys.stderr)
    sys.exit(status)


def table() -> list[str]:
    with open(MOUNTINFO) as lines:
        return lines.read().splitlines()


def write(lines: list[str]) -> None:
    with open(MOUNTINFO + ".new", "w") as text:
        text.write("".join(f"{line}\n" for line in lines))
    os.replace(MOUNTINFO + ".new", MOUNTINFO)


def is_mounted(point: str) -> bool:
    return any(line.split()[4] == point for line in table())


def put_mount(source: str, point: str, fstype: str, options: str = "rw") -> None:
    number = 30 + len(table()) + int(time.time() * 1000) % 100000
    write([*table(), f"{number} 21 0:{len(table()) + 40} / {point} rw,relatime - {fstype} {source} {options}"])


def drop_mount(point: str, *, everything: bool = False) -> None:
    lines = table()
    tops = [line for line in lines if line.split()[4] == point]
    gone = tops if everything else tops[-1:]
    write([line for line in lines if line not in gone])


def umount(point: str, *, lazy: bool = False) -> None:
    if not is_mounted(point):
        fail(f"umount: {point}: not mounted.", status=32)
    if has("busy") and not lazy:
        fail(f"umount: {point}: target is busy.", status=32)
    drop_mount(point)


def run_mount() -> None:
    if WORDS[0] == "-t":
        source, point = WORDS[-2:]
        options = WORDS[3] if WORDS[2] == "-o" else "rw"
        put_mount(source, point, WORDS[1], options)
        return
    entry = load("fstab").get(WORDS[0])
    if entry is None:
        fail(f"mount: {WORDS[0]}: can't find in /etc/fstab.", status=1)
    put_mount(entry["source"], WORDS[0], entry["fstype"], entry.get("options", "rw"))


def run_umount() -> None:
    umount(WORDS[-1], lazy="--lazy" in WORDS)


def run_systemctl() -> None:
    verb, names = WORDS[0], WORDS[WORDS.index("--") + 1 :]
    units = load("units")
    if verb == "show":
        blocks = []
        for name in names:
            unit = units.get(name, {"load": "not-found", "active": "inactive"})
            blocks.append(f"Id={name}\nLoadState={unit['load']}\nActiveState={unit['active']}")
        print("\n\n".join(blocks))
        return
    for name in names:
        if name not in units:
            fail(f"Failed to {verb} {name}: Unit {name} not found.", status=5)
        turn(verb, name, units[name])
        save("units", units)


def turn(verb: str, name: str, unit: "dict[str, Any]") -> None:
    job = f"Job for {name} failed."
    see = f'See "systemctl status {name}" and "journalctl -xeu {name}" for details.'
    mount: dict[str, Any] | None = unit.get("mount")
    if verb in {"stop", "restart"} and unit["active"] == "active":
        if name.endswith(".automount"):
            drop_mount(unit["mount"]["point"], everything=True)  # as MNT_DETACH does: busy or not
        elif mount and is_mounted(mount["point"]):
            if has("busy"):
                fail(job, see)
            drop_mount(mount["point"])
        drop_module(unit)
        unit["active"] = "inactive"
    if verb in {"start", "restart"} and unit["active"] != "active":
        if mount is not None:
            put_mount(mount["source"], mount["point"], mount["fstype"], mount.get("options", "rw"))
        if "module" in unit:
            with open(f"{STATE}/proc/modules", "w") as text:
                text.write(f"{unit['module']} 1605632 1 - Live 0x0000000000000000\n")
        unit["active"] = "active"


def drop_module(unit: "dict[str, Any]") -> None:
    if "module" in unit and not has("module.in_use"):
        with open(f"{STATE}/proc/modules", "w"):
            pass


def run_mmgetstate() -> None:
    gpfs = load("gpfs")
    if gpfs["state"] == "arbitrating":
        gpfs["arbitrating"] -= 1
        if gpfs["arbitrating"] <= 0:
            gpfs["state"] = "active"
        save("gpfs", gpfs)
    print(
        "mmgetstate::HEADER:version:reserved:reserved:nodeName:nodeNumber:state:quorum:nodesUp:totalNodes:remarks:cnfsState:"
    )
    print(f"mmgetstate::0:1:::n1:11:{gpfs['state']}:4:7:1122::(undefined):")


def run_mmstartup() -> None:
    print("Sat Nov 21 12:00:00 UTC 2026: mmstartup: Starting GPFS ...")
    gpfs = load("gpfs")
    gpfs["state"] = "arbitrating"
    save("gpfs", gpfs)


def run_mmmount() -> None:
    gpfs = load("gpfs")
    if gpfs["state"] != "active":
        fail(f"mmmount: 6027-1996 Command was unable to determine whether file system {WORDS[0]} is mounted.")
    point = gpfs["filesystems"][WORDS[0]]
    put_mount(WORDS[0], point, "gpfs")


def run_mmumount() -> None:
    umount(load("gpfs")["filesystems"][WORDS[0]])


def run_mmshutdown() -> None:
    gpfs = load("gpfs")
    for point in gpfs["filesystems"].values():
        drop_mount(point)
    gpfs["state"] = "down"
    save("gpfs", gpfs)


def run_lctl() -> None:
    with open(f"{STATE}/imports") as text:
        print(text.read(), end="")


def run_lustre_rmmod() -> None:
    if has("busy"):
        fail("rmmod: ERROR: Module lustre is in use")
    with open(f"{STATE}/proc/modules", "w"):
        pass


with open(f"{STATE}/calls", "a") as log:
    log.write(" ".join([ME, *WORDS]) + "\n")
if has(f"{ME}.hang"):
    with open(f"{STATE}/knobs/{ME}.hang") as text:
        if text.read() in {"", WORDS[0]}:
            time.sleep(600)
if has(f"{ME}.fail"):
    with open(f"{STATE}/knobs/{ME}.fail") as text:
        fail(text.read())
globals()[f"run_{ME}"]()
