"""Every recorded answer of NHC's checks, asked again in strict mode."""

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from refloat_checks.hardware import IbPort, Infiniband, Memory, Processors
from refloat_checks.mount_faults import Mounted
from refloat_checks.nhc.checks.launching import Ended
from refloat_checks.nhc.native import NhcOutcome
from refloat_checks.nhc.registry import find
from refloat_checks.probed import Usage
from refloat_checks.proc import Mount
from refloat_checks.process_table import Identity, ProcessUse
from refloat_checks.process_titles import Title
from refloat_checks.sockets import TABLES, Socket

DATA: dict[str, Any] = json.loads((Path(__file__).parents[1] / "nhc_check_vectors.json").read_text())
VECTORS: list[dict[str, Any]] = [vector for vector in DATA["vectors"] if find(vector["check"]) is not None]


def fixture(name: str) -> dict[str, Any]:
    """Give a fixture with what it adds to the one it is based on."""
    own: dict[str, Any] = DATA["fixtures"][name]
    return {**fixture(own["base"]), **own} if "base" in own else own


def of_hardware(name: str) -> dict[str, Any]:
    seen = fixture(name)
    ports = tuple(IbPort(port["dev"], port["state"], port["phys_state"], port["rate"]) for port in seen["ib"])
    return {
        "processors": Processors(seen["sockets"], seen["cores"], seen["threads"]),
        "memory": Memory(*(seen[key] for key in ("ram_total_kb", "ram_free_kb", "swap_total_kb", "swap_free_kb"))),
        "InfiniBand ports": Infiniband(ports, seen["ib_umad_abi_ver"]),
        "kernel modules": tuple(seen["modules"]),
        "network devices": tuple(seen["eth"]),
    }


def of_filesystems(name: str) -> dict[str, Any]:
    seen = fixture(name)
    lines = [(each["mnt"], each["dev"], each["type"], each["opts"]) for each in seen["mounts"]]
    table = {point: Mounted(source, fstype, options) for point, source, fstype, options in lines}
    recorded: dict[str, Any] = {
        "mounts": table,
        "mounts /home": table,
        "the mount table": tuple(Mount(*line[:3], frozenset(line[3].split(","))) for line in lines),
    }
    inodes = {each["mnt"]: each for each in seen["dfi"]}
    for each in seen["df"]:
        count = inodes[each["mnt"]]
        numbers = (each[key] for key in ("size_kb", "free_kb", "used_kb"))
        recorded[f"usage {each['mnt']}"] = Usage(*map(int, (*numbers, count["inodes"], count["ifree"])))
    return recorded


def rows(name: str) -> list[dict[str, Any]]:
    own = DATA["fixtures"][name]
    found: list[dict[str, Any]] = rows(own["base"]) + own["add"] if "base" in own else own["rows"]
    return found


def of_processes(name: str) -> dict[str, Any]:
    seen = rows(name)
    uses = tuple(use(row) for row in seen)
    recorded: dict[str, Any] = {f"user {row['uid']}": row["user"] for row in seen}
    recorded["memory"] = Memory(1, 1, 0, 0)
    recorded["process titles"] = tuple(Title(each.pid, each.title) for each in uses)
    recorded["what processes use"] = uses
    recorded["job owners"] = ["someuser", "mej"]
    recorded["processes"] = {each.pid: Identity(each.uid, 7) for each in uses}
    return recorded


def use(row: dict[str, Any]) -> ProcessUse:
    *_, minutes, seconds = row["time"].split(":")
    cpu, memory = (int(row[key].replace(".", "")) for key in ("pcpu", "pmem"))
    sizes = (cpu, memory, row["rss_kb"], row["vsz_kb"], int(minutes) * 60 + int(seconds))
    return ProcessUse(row["pid"], row["ppid"], row["uid"], row["args"], *sizes, 7)


def of_load(name: str) -> dict[str, Any]:
    return {"/proc/loadavg": " ".join(f"{part}.50" for part in fixture(name)["int_parts"]) + " 1/2 3\n"}


def of_firmware(name: str) -> dict[str, Any]:
    return {"program dmidecode": Ended(0, "\n".join(fixture(name)["dmidecode_lines"]))}


def of_program(seen: dict[str, Any]) -> dict[str, Any]:
    if "nvidia_healthmon_exit" in seen:
        return {"program nvidia-healthmon -e -v": Ended(seen["nvidia_healthmon_exit"], "")}
    return {"program mcelog --client": Ended(0, seen["mcelog_stdout_echo_e"].replace("\\n", "\n"))}


def variables_of(vector: dict[str, Any]) -> dict[str, str]:
    seen = vector.get("fixture")
    if not isinstance(seen, dict) or "max_corrected" not in seen:
        return {}
    return {f"MCELOG_MAX_{kind.upper()}_RATE": seen[f"max_{kind}"] for kind in ("corrected", "uncorrected")}


def recorded_for(vector: dict[str, Any]) -> dict[str, Any]:
    seen = vector.get("fixture")
    if seen is None:
        return {}
    return of_program(seen) if isinstance(seen, dict) else RECORDED[seen](seen)


def of_sockets(name: str) -> dict[str, Any]:
    seen = DATA["fixtures"][name]
    recorded: dict[str, Any] = {f"{proto} sockets": [] for proto in TABLES}
    held: dict[int, list[int]] = {}
    for inode, each in enumerate(seen, start=1):
        uid = int(each["uid"]) if each["uid"] else None
        addresses = each["local"], each["remote"]
        row = Socket(each["proto"], *addresses, each["state"], each["type"], uid, inode)
        recorded[f"{each['proto']} sockets"].append(row)
        recorded[f"user {each['uid']}"] = each["user"]
        held[inode] = [int(each["pid"])]
    recorded["process titles"] = tuple(Title(int(each["pid"]), each["procname"]) for each in seen)
    recorded["sockets"] = held
    return recorded


# The messages were recorded in NHC's test mode, where the shell is the command that does nothing.
VARIABLES: Mapping[str, str] = {
    "SHELL": ":",
    "NHC_RM": "slurm",
    "RM_DAEMON_MATCH": "/(^|[^A-Za-z0-9])pbs_mom($|[^A-Za-z0-9])/",
    "NHC_AUTH_USERS": "root nobody mej",
}
RECORDED: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "hw": of_hardware,
    "hw_gm": of_hardware,
    "dmi": of_firmware,
    "fs": of_filesystems,
    "net": of_sockets,
    "loadavg": of_load,
    "ps": of_processes,
    "ps+auth": of_processes,
    "ps+auth+naughty": of_processes,
}


@pytest.mark.parametrize("number", range(len(VECTORS)))
async def test_the_answer_is_nhcs(number: int, ask: Callable[..., Awaitable[NhcOutcome]], tmp_path: Path) -> None:
    vector = VECTORS[number]
    recorded, variables = recorded_for(vector), {**VARIABLES, **variables_of(vector)}
    words = [prepared(word, vector, tmp_path) for word in vector["args"]]

    outcome = await ask(vector["check"], *words, recorded=recorded, variables=variables, strict=True)

    message = outcome.message
    for word, placeholder in zip(words, vector["args"], strict=True):
        message = message.replace(word, placeholder) if word != placeholder else message
    assert (outcome.rc, message) == (vector["rc_master"], vector["message"] or ""), vector


def prepared(word: str, vector: dict[str, Any], place: Path) -> str:
    """Make the file that a word stands for."""
    if word == "<FILE>":
        (place / "file").write_text(vector["file_text"])
        return str(place / "file")
    if word == "<FIFO>":
        os.mkfifo(place / "fifo", 0o600)
        return str(place / "fifo")
    return word
