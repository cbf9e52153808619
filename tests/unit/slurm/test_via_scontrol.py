# SPDX-License-Identifier: Apache-2.0
"""The scontrol gateway against stand-ins that write down how they were called."""

from collections.abc import Callable
from pathlib import Path

import pytest

from refloat_contract.errors import RefloatError, Refused, Transient, UnknownNode
from refloat_slurm.gateway import AdminLevel, Change, Job, JobEnd, NodeView
from refloat_slurm.via_scontrol import ScontrolGateway

Tool = Callable[..., str]

NODE = (
    "NodeName=n1 Arch=x86_64 State=DOWN+DRAIN ThreadsPerCore=1 Partitions=main  BootTime=1795215421"
    " SlurmdStartTime=1795215433 LastBusyTime=1795215433 Reason=r [root@17]"
)


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    def make(name: str, out: str = "", err: str = "", rc: int = 0, before: str = "") -> str:
        (tmp_path / f"{name}.out").write_text(out)
        (tmp_path / f"{name}.err").write_text(err)
        path = tmp_path / name
        path.write_text(
            f'#!/bin/sh\n: > "$0.args"\nfor arg; do printf "%s\\0" "$arg" >> "$0.args"; done\nenv > "$0.env"\n'
            f'{before}\ncat "$0.out"\ncat "$0.err" >&2\nexit {rc}\n'
        )
        path.chmod(0o755)
        return str(path)

    return make


def environment(path: str) -> dict[str, str]:
    return dict(row.split("=", 1) for row in Path(f"{path}.env").read_text().splitlines() if "=" in row)


def was_called(path: str) -> bool:
    return Path(f"{path}.args").exists()


def arguments(path: str) -> list[str]:
    return Path(f"{path}.args").read_text().split("\0")[:-1]


async def test_a_node_is_read_by_sinfo_alone(tool: Tool) -> None:
    sinfo = tool("sinfo", "idle+drain|root|17|a | b|\n")

    view = await ScontrolGateway(scontrol="/nonexistent", sinfo=sinfo).node("n1")

    assert view == NodeView("n1", frozenset({"IDLE", "DRAIN"}), "a | b", "root", 17, registration=None)
    assert arguments(sinfo) == ["-h", "-a", "-n", "n1", "-O", "StateComplete:|,User:|,Timestamp:|,Reason:|"]


async def test_users_settings_do_not_reach_the_programs(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    sinfo = tool("sinfo", "idle|Unknown|Unknown|none|\n")
    for name, value in {
        "SINFO_FORMAT": "%N", "SQUEUE_STATES": "PD", "SLURM_CLUSTERS": "other", "SLURM_TIME_FORMAT": "relative",
        "LANG": "de_DE.UTF-8", "LC_TIME": "de_DE.UTF-8", "SLURM_CONF": "/etc/slurm/slurm.conf",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)

    await ScontrolGateway(sinfo=sinfo).node("n1")

    seen = environment(sinfo)
    assert (seen["LC_ALL"], seen["SLURM_TIME_FORMAT"]) == ("C", "%s")
    assert seen["SLURM_CONF"] == "/etc/slurm/slurm.conf"
    assert not seen.keys() & {"SINFO_FORMAT", "SQUEUE_STATES", "SLURM_CLUSTERS", "LANG", "LC_TIME"}


async def test_a_node_in_no_partition_is_read_by_scontrol(tool: Tool) -> None:
    scontrol = tool("scontrol", NODE + "\n")

    view = await ScontrolGateway(scontrol=scontrol, sinfo=tool("sinfo")).node("n1")

    assert view.flags == {"DOWN", "DRAIN"}
    assert arguments(scontrol) == ["-o", "show", "node", "n1"]


async def test_a_node_that_neither_knows_is_unknown(tool: Tool) -> None:
    gateway = ScontrolGateway(scontrol=tool("scontrol", "Node n1 not found\n", rc=1), sinfo=tool("sinfo"))

    with pytest.raises(UnknownNode):
        await gateway.node("n1")


async def test_the_table_is_read(tool: Tool) -> None:
    scontrol = tool("scontrol", f"{NODE}\n{NODE.replace('=n1', '=n2')}\n")

    views = await ScontrolGateway(scontrol=scontrol).nodes()

    assert list(views) == ["n1", "n2"]
    assert arguments(scontrol) == ["-a", "-o", "show", "nodes"]


async def test_the_jobs_of_a_large_machine_are_not_too_many(tool: Tool) -> None:
    line = "7|alice|RUNNING|1795217017|n[1-2]\n"
    squeue = tool("squeue", line * 250_000)

    assert len(await ScontrolGateway(squeue=squeue).all_jobs()) == 250_000


async def test_jobs_in_all_states_are_asked_for(tool: Tool) -> None:
    squeue = tool("squeue", "7|alice|SUSPENDED|NONE\n")

    assert await ScontrolGateway(squeue=squeue).jobs("n1") == (Job("7", "alice", "SUSPENDED", 0),)
    assert arguments(squeue) == ["-h", "-a", "-r", "-w", "n1", "-t", "all", "-o", "%i|%u|%T|%e"]


async def test_all_jobs_come_with_their_nodes_in_one_call(tool: Tool) -> None:
    squeue = tool("squeue", "7|alice|RUNNING|1795217017|n[1-2]\n8_1|bob|COMPLETING|NONE|n4\n")

    assert await ScontrolGateway(squeue=squeue).all_jobs() == (
        Job("7", "alice", "RUNNING", 1795217017, "n[1-2]"),
        Job("8_1", "bob", "COMPLETING", 0, "n4"),
    )
    states = "RUNNING,SUSPENDED,COMPLETING,CONFIGURING,STOPPED"
    assert arguments(squeue) == ["-h", "-a", "-t", states, "-o", "%i|%u|%T|%e|%N"]


async def test_a_job_is_requeued_or_cancelled_by_its_id_alone(tool: Tool) -> None:
    scontrol, scancel = tool("scontrol"), tool("scancel")
    gateway = ScontrolGateway(scontrol=scontrol, scancel=scancel)
    await gateway.end_job("7_3", JobEnd.REQUEUE)
    await gateway.end_job("8+1", JobEnd.CANCEL)

    assert arguments(scontrol) == ["requeue", "7_3"]
    assert arguments(scancel) == ["8+1"]
    for wrong in ("", "-a", "7,8", "7_[1-4]", "alice", "7 8"):
        with pytest.raises(ValueError, match="not the id of one job"):
            await gateway.end_job(wrong, JobEnd.CANCEL)


@pytest.mark.parametrize(
    ("change", "reason", "fields"),
    [
        (Change.DRAIN, 'x "y" | $(reboot)\n-z', ["state=DRAIN", 'reason=x "y" | $(reboot)\n-z']),
        (Change.DOWN, "down now", ["state=DOWN", "reason=down now"]),
        (Change.RESUME, None, ["state=RESUME"]),
        (Change.UNDRAIN, None, ["state=UNDRAIN"]),
        (None, "other words", ["reason=other words"]),
    ],
)
async def test_an_update_is_an_argument_list(
    tool: Tool, change: Change | None, reason: str | None, fields: list[str]
) -> None:
    scontrol = tool("scontrol")

    await ScontrolGateway(scontrol=scontrol).update("n1", change, reason)

    assert arguments(scontrol) == ["update", "nodename=n1", *fields]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (Change.DRAIN, None),
        (Change.DOWN, None),
        (None, None),
        (Change.DRAIN, ""),
        (None, " "),
        (Change.RESUME, "a\0b"),
        (None, "\udcff"),
    ],
)
async def test_an_update_that_slurm_would_not_take_is_not_sent(
    tool: Tool, change: Change | None, reason: str | None
) -> None:
    scontrol = tool("scontrol")

    with pytest.raises(ValueError, match="reason"):
        await ScontrolGateway(scontrol=scontrol).update("n1", change, reason)
    assert not was_called(scontrol)


@pytest.mark.parametrize(
    ("complaint", "kind"),
    [
        ("slurm_update error: Invalid node state specified", Refused),
        ("slurm_update error: Invalid node name specified", UnknownNode),
        ("slurm_update error: Unable to contact slurm controller (connect failure)", Transient),
    ],
)
async def test_a_complaint_becomes_an_error(tool: Tool, complaint: str, kind: type[RefloatError]) -> None:
    gateway = ScontrolGateway(scontrol=tool("scontrol", err=complaint, rc=1))

    with pytest.raises(kind) as caught:
        await gateway.update("n1", Change.RESUME)
    assert type(caught.value) is kind


async def test_a_program_that_hangs_is_killed(tool: Tool) -> None:
    gateway = ScontrolGateway(sinfo=tool("sinfo", before="exec sleep 60"), deadline_s=0.1)

    with pytest.raises(Transient, match="did not end"):
        await gateway.node("n1")


async def test_half_an_answer_with_success_is_not_taken(tool: Tool) -> None:
    gateway = ScontrolGateway(
        scontrol=tool("scontrol", NODE[:40]), sinfo=tool("sinfo", "idle+dr"), squeue=tool("squeue", "7|al")
    )

    for call in (gateway.node, gateway.node_in_full, gateway.jobs):
        with pytest.raises(Transient, match="understand"):
            await call("n1")
    with pytest.raises(Transient, match="understand"):
        await gateway.nodes()


async def test_hidden_partitions_are_asked_for_too(tool: Tool) -> None:
    scontrol = tool("scontrol", "PartitionName=main AllocNodes=ALL Nodes=n[1-2] TotalNodes=2\n")

    assert await ScontrolGateway(scontrol=scontrol).partitions() == {"main": "n[1-2]"}
    assert arguments(scontrol) == ["-a", "-o", "show", "partitions"]


async def test_accounting_is_asked_about_one_user_and_only_read(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACCTMGR_FORMAT", "user")
    sacctmgr = tool("sacctmgr", "alice|Operator\n")

    assert await ScontrolGateway(sacctmgr=sacctmgr).admin_level("alice") is AdminLevel.OPERATOR
    assert arguments(sacctmgr) == ["-r", "-n", "-P", "show", "user", "name=alice", "format=user,adminlevel"]
    assert "SACCTMGR_FORMAT" not in environment(sacctmgr)


@pytest.mark.parametrize("user", ["", "a,b", "-i", "a b", "a;reboot", "alice\n", "set adminlevel=Admin", "a\0b"])
async def test_what_does_not_name_one_user_is_not_asked_about(tool: Tool, user: str) -> None:
    sacctmgr = tool("sacctmgr", "root|Administrator\n")
    with pytest.raises(ValueError, match="not the name of one user"):
        await ScontrolGateway(sacctmgr=sacctmgr).admin_level(user)

    assert not was_called(sacctmgr)


# What sacctmgr of 24.11 says without accounting, without slurmdbd, and with one that has lost its database.
NO_ACCOUNTING = (
    "You are not running a supported accounting_storage plugin\nOnly 'accounting_storage/slurmdbd' is supported.\n"
)
NO_SLURMDBD = (
    "sacctmgr: error: _open_persist_conn: failed to open persistent connection to host:127.0.0.1:6819: Connection"
    " refused\nsacctmgr: error: Sending PersistInit msg: Connection refused\n"
)
NO_DATABASE = "sacctmgr: error: Sending PersistInit msg: Unable to connect to database\n"


@pytest.mark.parametrize(
    ("complaint", "kind"), [(NO_ACCOUNTING, Refused), (NO_SLURMDBD, Transient), (NO_DATABASE, Transient)]
)
async def test_accounting_that_does_not_answer_is_no_level(
    tool: Tool, complaint: str, kind: type[RefloatError]
) -> None:
    with pytest.raises(kind):
        await ScontrolGateway(sacctmgr=tool("sacctmgr", err=complaint, rc=1)).admin_level("alice")
