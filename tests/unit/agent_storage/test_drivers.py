# SPDX-License-Identifier: Apache-2.0
"""Each driver from end to end over stand-ins of its tools: up, proven, down, and all that may go wrong."""

import asyncio
from typing import Any

import pytest
from storage_node import Node, proven

from refloat_agent.effects.mounts import NodeMounts
from refloat_agent.observation import StorageFacts
from refloat_contract.errors import GivenUp, RefloatError, Refused

IMPORTS = """\
mdc.scratch-MDT0000-mdc-ffff9a3b4c5d6000.import=
import:
    name: scratch-MDT0000-mdc-ffff9a3b4c5d6000
    target: scratch-MDT0000_UUID
    state: {mdt}
    connect_flags: [ write_grant, server_lock, version, acl ]
    import_flags: [ replayable, pingable, connect_tried ]
    connection:
       failover_nids: [ "10.0.0.1@o2ib", "10.0.0.2@o2ib" ]
       current_connection: "10.0.0.1@{net}"
       connection_attempts: 1
       generation: 1
       in-progress_invalidations: 0
       idle: 12 sec
osc.scratch-OST0000-osc-ffff9a3b4c5d6000.import=
import:
    name: scratch-OST0000-osc-ffff9a3b4c5d6000
    target: scratch-OST0000_UUID
    state: IDLE
    connection:
       failover_nids: [ 10.0.0.3@o2ib ]
       current_connection: <none>
       connection_attempts: 1
"""
NFS = {"source": "nfs1:/export/scratch", "fstype": "nfs4", "options": "rw,vers=4.2,proto=rdma,hard,addr=10.0.0.9"}
DRIVERS: dict[str, dict[str, Any]] = {
    "fstab": {"driver": "fstab", "source": "nfs1:/export/*", "fstype": "nfs*", "transport": "rdma"},
    "systemd": {"driver": "systemd", "source": "nfs1:/export/*", "transport": "rdma"},
    "automount": {"driver": "systemd", "source": "nfs1:/export/*"},
    "gpfs": {"driver": "gpfs", "device": "gpfs0", "source": "gpfs0", "fstype": "gpfs"},
    "lustre": {
        "driver": "lustre",
        "device": "10.0.0.1@o2ib:10.0.0.2@o2ib:/scratch",
        "mount_options": ["rw", "flock"],
        "options": ["flock"],
        "unload": True,
        "transport": "o2ib",
    },
    "beegfs": {"driver": "beegfs", "fstype": "beegfs", "unload": True, "transport": "RDMA"},
    "command": {
        "mount": [["mount", "/scratch"]],
        "unmount": [["umount", "/scratch"]],
        "source": "nfs1:/export/scratch",
    },
}
TOOL = {
    "fstab": "umount", "systemd": "systemctl", "automount": "systemctl", "gpfs": "mmumount", "lustre": "umount",
    "beegfs": "systemctl", "command": "umount",
}  # fmt: skip


@pytest.fixture(params=sorted(DRIVERS))
def driver(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def storage(driver: str, **changes: Any) -> dict[str, Any]:
    return {"name": "scratch", "path": "/scratch", **DRIVERS[driver], **changes}


def prepare(node: Node, driver: str) -> None:
    """What the machine's administrator has set up for a driver."""
    mount = {"point": "/scratch", **NFS}
    loaded = {"load": "loaded", "active": "inactive"}
    node.put("fstab", {"/scratch": NFS})
    if driver in {"systemd", "automount"}:
        units = {"scratch.mount": {**loaded, "mount": mount}}
        if driver == "automount":
            trap = {"point": "/scratch", "source": "systemd-1", "fstype": "autofs"}
            units["scratch.automount"] = {**loaded, "mount": trap}
        node.put("units", units)
    elif driver == "gpfs":
        node.put("gpfs", {"state": "down", "arbitrating": 2, "filesystems": {"gpfs0": "/scratch"}})
    elif driver == "lustre":
        (node.place / "imports").write_text(IMPORTS.format(mdt="FULL", net="o2ib"))
        (node.proc / "modules").write_text("lustre 1044480 0 - Live 0x0000000000000000\n")
    elif driver == "beegfs":
        unit = {"mount": {"point": "/scratch", "source": "beegfs_nodev", "fstype": "beegfs"}, "module": "beegfs"}
        node.put("units", {"beegfs-client.service": {**loaded, **unit}})
        tables = node.proc / "fs/beegfs/3E8-6740-n1"
        tables.mkdir(parents=True)
        (tables / "meta_nodes").write_text("meta1 [ID: 1]\n   Root: <yes>\n   Connections: RDMA: 1 (10.0.0.5:8005);\n")
        (tables / "storage_nodes").write_text("stor1 [ID: 1]\n   Connections: <none>\n")


async def facts(mounts: NodeMounts) -> StorageFacts:
    (found,) = await mounts.state()
    return found


async def mounted(node: Node, driver: str, **changes: Any) -> NodeMounts:
    prepare(node, driver)
    mounts = node.mounts(storage(driver, **changes))
    for each in mounts._drivers.values():
        if hasattr(each, "pause_s"):
            each.pause_s = 0.01
    await mounts.mount()
    return mounts


def hold(node: Node) -> None:
    """A job's process works in the storage, and nothing can unmount it."""
    node.process(
        991, "python", cwd="/scratch/run", cgroup="0::/system.slice/slurmstepd.scope/job_4711/step_0/user/task_0"
    )
    node.knob("busy")


async def test_storage_is_mounted_and_proven_and_unmounted_and_gone(node: Node, driver: str) -> None:
    mounts = await mounted(node, driver)
    up = await facts(mounts)

    await mounts.unmount("c1", reboots=True, still=proven)
    down = await facts(mounts)

    assert (up.mounted, up.right) == (True, True), up.why
    assert (down.mounted, down.right, down.why) == (False, False, "nothing is mounted on /scratch")
    assert node.points() == []


async def test_what_is_done_twice_is_done_once(node: Node, driver: str) -> None:
    mounts = await mounted(node, driver)
    before = node.calls

    await mounts.mount()
    calls_up = node.calls
    await mounts.unmount("c1", reboots=True, still=proven)
    calls_down = node.calls
    await mounts.unmount("c1", reboots=True, still=proven)

    assert calls_up == before
    assert node.calls == calls_down


async def test_busy_storage_is_held_with_the_names_of_those_who_use_it(node: Node, driver: str) -> None:
    mounts = await mounted(node, driver)
    hold(node)

    with pytest.raises(GivenUp, match=r"^unmount /scratch busy: pid 991 python uid 1000 \(job 4711\)$"):
        await mounts.unmount("c1", reboots=True, still=proven)

    found = await facts(mounts)
    assert (found.mounted, found.note) == (True, "")
    assert "/scratch" in node.points()


async def test_storage_that_lets_go_in_time_is_unmounted(node: Node, driver: str) -> None:
    mounts = await mounted(node, driver, busy="wait", unmount_deadline_s=20)
    hold(node)

    async def let_go() -> str:
        while not (note := (await facts(mounts)).note):  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)
        await asyncio.to_thread((node.place / "knobs/busy").unlink)
        return note

    note, _ = await asyncio.gather(let_go(), mounts.unmount("c1", reboots=True, still=proven))

    assert note == "unmount /scratch busy: pid 991 python uid 1000 (job 4711)"
    assert (node.points(), (await facts(mounts)).note) == ([], "")


async def test_a_missing_tool_proves_nothing_and_unmounts_nothing(node: Node, driver: str) -> None:
    mounts = await mounted(node, driver)
    for tool in {TOOL[driver], "mmgetstate", "mmshutdown", "lustre_rmmod"} & {path.name for path in node.bin.iterdir()}:
        node.lose(tool)

    with pytest.raises(RefloatError, match=f"cannot run .*{TOOL[driver]}|mmgetstate"):
        await mounts.unmount("c1", reboots=True, still=proven)

    assert (await facts(mounts)).mounted


async def test_a_tool_that_hangs_is_ended_and_the_storage_counts_as_mounted(node: Node, driver: str) -> None:
    mounts = await mounted(node, driver)
    node.knob(f"{TOOL[driver]}.hang", "stop" if TOOL[driver] == "systemctl" else "")

    with pytest.raises(RefloatError, match="did not end within"):
        await mounts.unmount("c1", reboots=True, still=proven)

    assert (await facts(mounts)).mounted


async def test_the_wrong_source_is_never_right_and_nothing_is_mounted_over_it(node: Node, driver: str) -> None:
    await mounted(node, driver)
    lines = node.mountinfo.read_text().splitlines()
    lines[-1] = lines[-1].replace("nfs1:", "nfs2:").replace(" gpfs0 ", " gpfs9 ")
    lines[-1] = lines[-1].replace("flock", "noflock").replace("- beegfs ", "- fuse.beegfs ")
    node.mountinfo.write_text("".join(f"{line}\n" for line in lines))
    before = node.calls

    strict = node.mounts(storage(driver, mount_deadline_s=0.1))
    with pytest.raises(Refused, match=r"should be|without option"):
        await strict.mount()

    assert not (await facts(strict)).right
    assert node.calls == before


@pytest.mark.parametrize("driver", ["fstab", "systemd", "lustre", "command"])
async def test_lazy_detaches_only_when_the_reboot_will_end_what_goes_on(node: Node, driver: str) -> None:
    mounts = (
        await mounted(node, driver, busy="lazy", unload=False)
        if driver == "lustre"
        else await mounted(node, driver, busy="lazy")
    )
    hold(node)

    with pytest.raises(GivenUp, match="pid 991"):
        await mounts.unmount("c1", reboots=False, still=proven)
    still = node.points()
    await mounts.unmount("c1", reboots=True, still=proven)

    assert still == ["/scratch"]
    assert node.points() == []
    assert not (await facts(mounts)).mounted


async def test_nothing_is_done_while_the_node_is_not_proven_empty_anew(node: Node, driver: str) -> None:
    mounts = await mounted(node, driver)
    before = node.calls

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await mounts.unmount("c1", reboots=True, still=lambda: False)

    assert node.calls == before
    assert (await facts(mounts)).mounted


async def test_what_stays_busy_is_not_detached_once_the_node_is_not_proven_empty_anew(node: Node) -> None:
    mounts = await mounted(node, "fstab", busy="lazy", unmount_deadline_s=0.01)
    hold(node)
    looks = iter([True, False])

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2.0):
            await mounts.unmount("c1", reboots=True, still=lambda: next(looks, False))

    assert node.points() == ["/scratch"]
    assert not any("--lazy" in call for call in node.calls)


async def test_skip_leaves_it_mounted_for_this_cycle_alone(node: Node, driver: str) -> None:
    mounts = await mounted(node, driver, busy="skip")
    hold(node)

    await mounts.unmount("c1", reboots=True, still=proven)

    found = await facts(mounts)
    assert (found.mounted, found.skipped) == (True, "c1")


async def test_a_busy_automounted_filesystem_is_not_detached_with_its_automount(node: Node) -> None:
    mounts = await mounted(node, "automount")
    assert node.points() == ["/scratch", "/scratch"]
    hold(node)

    with pytest.raises(GivenUp):
        await mounts.unmount("c1", reboots=True, still=proven)

    assert not any("stop -- scratch.automount" in call for call in node.calls)
    assert node.points() == ["/scratch", "/scratch"]


async def test_an_automount_alone_is_no_storage(node: Node) -> None:
    mounts = await mounted(node, "automount")
    node.mountinfo.write_text("\n".join(node.mountinfo.read_text().splitlines()[:-1]) + "\n")

    found = await facts(mounts)

    assert (found.mounted, found.right, found.why) == (True, False, "only the automount is set up on /scratch")


async def test_gpfs_is_never_shut_down_beneath_another_mounted_filesystem(node: Node) -> None:
    node.put("gpfs", {"state": "active", "arbitrating": 0, "filesystems": {"gpfs0": "/scratch", "gpfs1": "/work"}})
    second = storage("gpfs", name="work", path="/work", device="gpfs1", source="gpfs1")
    mounts = node.mounts(storage("gpfs"), second)
    await mounts.mount()
    calls = len(node.calls)

    await mounts.unmount("c1", reboots=True, still=proven)

    assert [call.split()[0] for call in node.calls[calls:]] == ["mmumount", "mmumount", "mmshutdown"]


async def test_gpfs_keeps_its_daemon_where_that_is_wanted(node: Node) -> None:
    mounts = await mounted(node, "gpfs", unload=False)

    await mounts.unmount("c1", reboots=True, still=proven)

    assert node.get("gpfs")["state"] == "active"


async def test_gpfs_that_does_not_become_active_is_not_mounted(node: Node) -> None:
    prepare(node, "gpfs")
    node.put("gpfs", {"state": "down", "arbitrating": 10**6, "filesystems": {"gpfs0": "/scratch"}})
    mounts = node.mounts(storage("gpfs", mount_deadline_s=0.1))
    for each in mounts._drivers.values():
        each.pause_s = 0.01  # type: ignore[attr-defined]

    with pytest.raises(RefloatError, match="GPFS is still arbitrating"):
        await mounts.mount()

    assert node.points() == []


@pytest.mark.parametrize(
    ("mdt", "net", "why"),
    [
        ("DISCONN", "o2ib", "/scratch: not connected: scratch-MDT0000 DISCONN"),
        ("FULL", "tcp", "/scratch: is connected by tcp (should be o2ib)"),
    ],
)
async def test_lustre_counts_as_mounted_only_when_connected_as_it_should_be(
    node: Node, mdt: str, net: str, why: str
) -> None:
    await mounted(node, "lustre")
    (node.place / "imports").write_text(IMPORTS.format(mdt=mdt, net=net))

    found = await facts(node.mounts(storage("lustre")))

    assert (found.right, found.why) == (False, why)


async def test_a_lustre_client_that_the_kernel_keeps_is_not_gone(node: Node) -> None:
    mounts = await mounted(node, "lustre")
    (node.roots.sys / "fs/lustre/llite/scratch-ffff9a3b4c5d6000").mkdir(parents=True)

    with pytest.raises(GivenUp, match="/scratch is unmounted, but the kernel still has a Lustre client of scratch"):
        await mounts.unmount("c1", reboots=True, still=proven)

    assert (await facts(mounts)).mounted


async def test_modules_that_cannot_be_unloaded_yet_are_waited_for(node: Node) -> None:
    mounts = await mounted(node, "lustre", unmount_deadline_s=2)
    node.knob("lustre_rmmod.fail", "rmmod: ERROR: Module lustre is in use")

    with pytest.raises(GivenUp, match="/scratch is unmounted, but the module lustre is loaded"):
        await mounts.unmount("c1", reboots=True, still=proven)

    assert sum(call == "lustre_rmmod" for call in node.calls) > 1


async def test_a_module_in_use_is_not_gone(node: Node) -> None:
    mounts = await mounted(node, "beegfs")
    node.knob("module.in_use")

    with pytest.raises(GivenUp, match="/scratch is unmounted, but the module beegfs is loaded"):
        await mounts.unmount("c1", reboots=True, still=proven)


async def test_beegfs_that_knows_no_server_is_not_right(node: Node) -> None:
    mounts = await mounted(node, "beegfs", transport=None)
    for table in (node.proc / "fs/beegfs").glob("*/storage_nodes"):
        table.write_text("")

    assert (await facts(node.mounts(storage("beegfs")))).why == "/scratch: 3E8-6740-n1 knows no storage server"
    assert (await facts(mounts)).right  # what was proven once stands as long as the mount


async def test_an_earlier_unmount_that_hangs_is_named_and_no_other_is_started(node: Node) -> None:
    mounts = await mounted(node, "fstab")
    folder = node.process(4242, "umount", state="D")
    (folder / "cmdline").write_text("umount\0/scratch\0")
    (folder / "wchan").write_text("rpc_wait_bit_killable")
    before = node.calls

    with pytest.raises(
        GivenUp,
        match="unmount /scratch hangs in the kernel: pid 4242 umount sleeps uninterruptibly in rpc_wait_bit_killable",
    ):
        await mounts.unmount("c1", reboots=True, still=proven)

    assert node.calls == before


async def test_a_probe_that_fails_keeps_the_storage_from_counting(node: Node) -> None:
    await mounted(node, "fstab")
    mounts = node.mounts(storage("fstab", probe="write", probe_path="/scratch/.probe"))

    missing = await facts(mounts)
    node.directory("/scratch/.probe")
    there = await facts(node.mounts(storage("fstab", probe="write", probe_path="/scratch/.probe")))

    assert (missing.right, missing.why) == (False, "/scratch: cannot write /scratch/.probe: No such file or directory")
    assert (there.right, list((node.roots.root / "scratch/.probe").iterdir())) == (True, [])


async def test_a_filesystem_that_does_not_answer_its_probe_is_not_right(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mounted(node, "fstab")
    hung = node.roots.root / "scratch"
    hung.rmdir()
    monkeypatch.setattr("refloat_agent.effects.mounts.PROOF_S", 0.1)
    node.pool._argv = ("/bin/sleep", "600")  # a helper that answers nothing
    node.pool._idle.clear()

    found = await facts(node.mounts(storage("fstab")))

    assert not found.right
    assert found.why.startswith("/scratch: cannot tell: /scratch ")
