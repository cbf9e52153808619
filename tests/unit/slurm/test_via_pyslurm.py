# SPDX-License-Identifier: Apache-2.0
"""The pyslurm gateway and its helper process, with a stand-in for pyslurm in the helper."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from refloat_contract.errors import RefloatError, Refused, Transient, UnknownNode
from refloat_slurm.choose import choose
from refloat_slurm.gateway import Change, NodeView, Registration
from refloat_slurm.pyslurm_worker import misfit
from refloat_slurm.via_pyslurm import PyslurmGateway

FAKE = Path(__file__).parent / "fake_pyslurm"
IDLE: dict[str, Any] = {
    "state": "IDLE", "reason": None, "reason_user": "root", "reason_time": None, "boot_time": 100,
    "slurmd_start_time": 110,
}  # fmt: skip
DRAINED = IDLE | {"state": "IDLE+DRAIN", "reason": "a | b [root@1] é", "reason_time": 17}


class Fake:
    """The node table that the stand-in serves, and what was changed through it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "table.json"
        self.log = folder / "changes.jsonl"
        self.set()

    def set(self, fault: str = "", **nodes: dict[str, Any]) -> None:
        table = nodes or {"n1": IDLE, "n2": DRAINED}
        self.path.write_text(json.dumps({"nodes": table, "fault": fault, "log": str(self.log)}))

    @property
    def changes(self) -> list[Any]:
        return [json.loads(row) for row in self.log.read_text().splitlines()]


async def until(seen: Callable[[], bool]) -> None:
    while not seen():  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.01)


def runs(pid: str) -> bool:
    stat = Path("/proc", pid, "stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setenv("PYTHONPATH", str(FAKE), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_PYSLURM", str(tmp_path / "table.json"))
    return Fake(tmp_path)


@pytest.fixture
async def gateway(fake: Fake) -> AsyncIterator[PyslurmGateway]:
    gateway = PyslurmGateway(squeue="/nonexistent/squeue", deadline_s=10)
    yield gateway
    await gateway.aclose()


async def test_a_node_is_read_with_its_registration(gateway: PyslurmGateway) -> None:
    assert await gateway.node("n2") == NodeView(
        "n2", frozenset({"IDLE", "DRAIN"}), "a | b [root@1] é", "root", 17, Registration(100, 110)
    )
    assert gateway.version == "24.11.0"


async def test_without_a_reason_there_is_no_user(gateway: PyslurmGateway) -> None:
    assert await gateway.node_in_full("n1") == NodeView("n1", frozenset({"IDLE"}), registration=Registration(100, 110))


async def test_the_table_is_read(gateway: PyslurmGateway) -> None:
    assert list(await gateway.nodes()) == ["n1", "n2"]


async def test_updates_are_sent(gateway: PyslurmGateway, fake: Fake) -> None:
    await gateway.update("n1", Change.DRAIN, "reboot")
    await gateway.update("n1", None, "other")
    await gateway.update("n2", Change.RESUME)

    assert fake.changes == [
        ["n1", {"state": "DRAIN", "reason": "reboot"}],
        ["n1", {"reason": "other"}],
        ["n2", {"state": "RESUME"}],
    ]


async def test_requests_made_at_once_get_their_own_answers(gateway: PyslurmGateway) -> None:
    views = await asyncio.gather(*(gateway.node(name) for name in ("n1", "n2") * 10))

    assert [view.name for view in views] == ["n1", "n2"] * 10


async def test_an_unknown_node_is_unknown(gateway: PyslurmGateway) -> None:
    with pytest.raises(UnknownNode):
        await gateway.node("n9")
    with pytest.raises(UnknownNode):
        await gateway.update("n9", Change.DRAIN, "x")
    with pytest.raises(Refused, match="Invalid node state"):
        await gateway.update("n1", Change.RESUME)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("connect", Transient), ("timeout", Transient), ("auth", Transient), ("user", Refused), ("api", Transient)],
)
async def test_an_error_of_pyslurm_is_ours_and_only_an_outage_ends_the_helper(
    gateway: PyslurmGateway, fake: Fake, fault: str, kind: type[RefloatError]
) -> None:
    await gateway.node("n1")
    helper = gateway._worker._process
    fake.set(fault)
    with pytest.raises(kind) as caught:
        await gateway.node("n1")
    fake.set()

    assert type(caught.value) is kind
    assert (await gateway.node("n1")).flags == {"IDLE"}
    # Not to be left with the slurm.conf of before the outage.
    assert (gateway._worker._process is helper) == (kind is Refused)


async def test_a_reason_that_is_no_utf8_hides_no_node(gateway: PyslurmGateway, fake: Fake) -> None:
    fake.set(n1=DRAINED | {"reason": "reboot: gr\udcffn"}, n2=IDLE)

    assert (await gateway.node("n1")).reason == "reboot: gr\N{REPLACEMENT CHARACTER}n"
    assert set(await gateway.nodes()) == {"n1", "n2"}


async def test_a_user_who_is_unknown_here_is_a_number(gateway: PyslurmGateway, fake: Fake) -> None:
    fake.set(n1=DRAINED | {"reason_user": 4711})

    assert (await gateway.node("n1")).reason_user == "4711"


async def test_a_call_that_hangs_ends_by_its_deadline_and_the_next_one_works(fake: Fake) -> None:
    gateway = PyslurmGateway(deadline_s=10)
    await gateway.node("n1")
    helper = gateway._worker._process
    gateway._deadline_s = 0.1
    fake.set("hang")
    with pytest.raises(Transient, match="did not answer"):
        await gateway.node("n1")
    fake.set()
    gateway._deadline_s = 10

    assert (await gateway.node("n2")).name == "n2"
    assert helper is not None
    assert helper.returncode is not None
    await gateway.aclose()


async def test_a_cancelled_call_does_not_leave_its_answer_to_the_next(gateway: PyslurmGateway, fake: Fake) -> None:
    await gateway.node("n1")
    fake.set("hang")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await gateway.node("n1")
    fake.set()

    assert (await gateway.node("n2")).name == "n2"


async def test_a_helper_that_dies_says_why_and_is_started_again(gateway: PyslurmGateway, fake: Fake) -> None:
    await gateway.node("n1")
    fake.set("die")
    with pytest.raises(Transient, match="status 3: pyslurm: something broke"):
        await gateway.node("n1")
    fake.set()

    assert (await gateway.node("n1")).name == "n1"


async def test_a_helper_that_was_killed_is_started_again(gateway: PyslurmGateway) -> None:
    await gateway.node("n1")
    assert gateway._worker._process is not None
    gateway._worker._process.kill()
    await gateway._worker._process.wait()
    with pytest.raises(Transient, match="ended with status -9"):
        await gateway.node("n1")

    assert (await gateway.node("n1")).name == "n1"


async def test_an_interpreter_that_the_import_ends_is_told_of(gateway: PyslurmGateway, fake: Fake) -> None:
    fake.set("no_conf")

    with pytest.raises(Transient, match="Unable to process configuration file"):
        await gateway.node("n1")


async def test_a_pyslurm_that_cannot_be_imported_is_told_of(gateway: PyslurmGateway, fake: Fake) -> None:
    fake.set("import_error")

    with pytest.raises(Transient, match=r"cannot import pyslurm: libslurm\.so\.42"):
        await gateway.node("n1")


@pytest.mark.parametrize(
    ("pyslurm", "slurm", "fits"),
    [
        ("24.11.0", "slurm 24.11.5", True),
        ("24.5.1", "slurm 24.05.3", True),
        ("22.5.3", "slurm-wlm 22.05.8", True),
        ("24.11.0", "slurm 25.05.1", False),
        ("24.5.1", "slurm 24.11.5", False),
        ("24.11.0", "", True),
        ("of unknown version", "slurm 24.11.5", True),
    ],
)
def test_a_pyslurm_serves_the_release_that_it_was_compiled_for(pyslurm: str, slurm: str, fits: bool) -> None:  # noqa: FBT001
    assert (misfit(pyslurm, slurm) == "") is fits


async def test_auto_takes_scontrol_once_slurm_has_been_updated_without_pyslurm(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.set()
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\necho slurm 25.05.1\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    choice = await choose("auto", node="n1", probe_s=10)

    assert choice.gateway.backend == "scontrol"
    assert "pyslurm 24.11.0 is for another release than this Slurm's (slurm 25.05.1)" in choice.why


async def test_a_helper_that_waits_for_slurm_is_ended_with_what_it_waits_for(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.set()
    scontrol, told = tmp_path / "scontrol", tmp_path / "pid"
    scontrol.write_text(f"#!/bin/sh\necho $$ >{told}.part && mv {told}.part {told}\nexec sleep 60\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    gateway = PyslurmGateway(deadline_s=30)
    reading = asyncio.create_task(gateway.node("n1"))
    await until(told.exists)

    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    await until(lambda: not runs(told.read_text().strip()))


async def test_what_slurm_prints_does_not_disturb_the_answers(gateway: PyslurmGateway, fake: Fake) -> None:
    fake.set("noise")

    assert (await gateway.node("n1")).name == "n1"
    assert (await gateway.node("n2")).name == "n2"


@pytest.mark.parametrize("state", ["", "BOGUS", "DRAIN", None])
async def test_a_state_that_is_not_understood_is_transient(
    gateway: PyslurmGateway, fake: Fake, state: str | None
) -> None:
    fake.set(n1=IDLE | {"state": state})

    with pytest.raises(Transient, match="understand"):
        await gateway.node("n1")
    with pytest.raises(Transient, match="understand"):
        await gateway.nodes()


async def test_jobs_come_from_squeue(gateway: PyslurmGateway) -> None:
    with pytest.raises(Refused, match="/nonexistent/squeue"):
        await gateway.jobs("n1")


async def test_a_python_that_does_not_start_is_transient(fake: Fake) -> None:
    with pytest.raises(Transient, match="cannot start"):
        await PyslurmGateway(python="/nonexistent/python").node("n1")


async def test_auto_takes_a_pyslurm_that_reads_the_node(fake: Fake) -> None:
    choice = await choose("auto", node="n1", probe_s=10)

    assert choice.gateway.backend == "pyslurm"
    assert "24.11.0" in choice.why
    await choice.gateway.aclose()


async def test_auto_without_a_node_reads_the_table(fake: Fake) -> None:
    choice = await choose("auto", probe_s=10)

    assert choice.gateway.backend == "pyslurm"


@pytest.mark.parametrize("fault", ["import_error", "no_conf", "connect", "api"])
async def test_auto_takes_scontrol_when_pyslurm_fails_and_says_why(fake: Fake, fault: str) -> None:
    fake.set(fault)

    choice = await choose("auto", node="n1", probe_s=10)

    assert choice.gateway.backend == "scontrol"
    assert "because pyslurm does not work here: " in choice.why


async def test_auto_does_not_wait_for_a_pyslurm_that_hangs(fake: Fake) -> None:
    fake.set("hang")

    choice = await choose("auto", node="n1", probe_s=0.5)

    assert choice.gateway.backend == "scontrol"


@pytest.mark.parametrize("kind", ["scontrol", "pyslurm"])
async def test_what_is_configured_is_taken_untried(kind: Any) -> None:
    choice = await choose(kind)

    assert choice.gateway.backend == kind
    assert "configured" in choice.why
