# SPDX-License-Identifier: Apache-2.0
"""Who may act on a daemon through its control socket: the kernel's word counts, not theirs."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from refloat_agent import desk
from refloat_contract.errors import Refused
from refloat_service import control
from refloat_service.control import ControlServer
from refloat_service.peers import Peer, may_act, peer_of

ALICE, NOBODY, OPERATORS = 1000, 65534, 4242
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

# A client that is somebody else: it drops root for good before it connects.
CLIENT = """
import json, os, socket, sys
path, command, uid, groups = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
os.setgroups(groups), os.setgid(uid), os.setuid(uid)
with socket.socket(socket.AF_UNIX) as asking:
    asking.connect(path)
    asking.sendall(json.dumps({"command": command, "arguments": {"by": "root", "uid": 0}}).encode() + b"\\n")
    print(asking.makefile().readline())
"""


class Daemon:
    """Something to ask, and to order about."""

    def __init__(self) -> None:
        self.acted = 0

    async def read(self, _: dict[str, Any]) -> str:
        return "read"

    async def act(self, _: dict[str, Any]) -> str:
        self.acted += 1
        return "acted"


@contextlib.asynccontextmanager
async def serving(folder: Path, **options: Any) -> AsyncIterator[tuple[Path, Daemon]]:
    daemon, path = Daemon(), folder / "c.sock"
    server = ControlServer(path, {"read": daemon.read, "act": daemon.act}, acting={"act"}, **options)
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(5):
            while not path.exists() and not task.done():  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.005)
        yield path, daemon
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that everybody can reach, as /run/refloat is."""
    for above in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        above.chmod(0o755)
    return tmp_path


async def asked_as(uid: int, path: Path, command: str, groups: tuple[int, ...] = ()) -> dict[str, Any]:
    argv = [sys.executable, "-S", "-c", CLIENT, str(path), command, str(uid), json.dumps(groups)]
    ended = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, check=True, timeout=20)
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


@needs_root
async def test_a_user_who_can_connect_reads_and_cannot_act_whatever_he_says_he_is(folder: Path) -> None:
    async with serving(folder, mode=0o666) as (path, daemon):
        with capture_logs() as logs:
            read, act = await asked_as(ALICE, path, "read"), await asked_as(ALICE, path, "act")

    assert read == {"result": "read"}
    assert act["error"]["kind"] == "refused"
    assert act["error"]["message"] == "uid 1000 may read here, but not ask for act: run this as root"
    assert daemon.acted == 0
    assert [(entry["event"], entry["uid"]) for entry in logs if "control" in entry["event"]] == [
        ("control_refused", ALICE)
    ]


@needs_root
async def test_a_member_of_the_sockets_group_may_act_and_is_named_in_the_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # There is no group that is sure to be on every machine, and that no user is in.
    monkeypatch.setattr("shutil.chown", lambda path, group: os.chown(path, -1, int(group)))
    async with serving(folder, mode=0o666, group=str(OPERATORS)) as (path, daemon):
        with capture_logs() as logs:
            member = await asked_as(ALICE, path, "act", groups=(7, OPERATORS))
            other = await asked_as(ALICE, path, "act", groups=(7,))

    assert member == {"result": "acted"}
    assert "or as a member of the group 4242" in other["error"]["message"]
    assert daemon.acted == 1
    assert [entry["uid"] for entry in logs if entry["event"] == "control_command"] == [ALICE]


@needs_root
async def test_the_agents_socket_opens_for_root_only(folder: Path) -> None:
    async with serving(folder) as (path, _):
        with pytest.raises(subprocess.CalledProcessError) as ended:
            await asked_as(NOBODY, path, "read")

    assert "PermissionError" in ended.value.stderr


async def test_the_daemons_own_user_may_act(folder: Path) -> None:
    async with serving(folder) as (path, daemon):
        assert await control.call(path, "act") == "acted"

    assert daemon.acted == 1


async def test_an_unknown_command_is_refused_before_it_is_asked_who_gives_it(folder: Path) -> None:
    async with serving(folder) as (path, _):
        with pytest.raises(Refused, match="unknown command"):
            await control.call(path, "reboot")


def test_the_kernel_tells_who_is_at_the_other_end() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours)

    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert peer.groups == {os.getegid(), *os.getgroups()}


@pytest.mark.parametrize(
    ("uid", "groups", "operators", "may"),
    [
        (0, (), None, True),
        (500, (), None, True),
        (ALICE, (ALICE,), None, False),
        (ALICE, (ALICE, OPERATORS), OPERATORS, True),
        (ALICE, (ALICE,), OPERATORS, False),
        (NOBODY, (0,), OPERATORS, False),
    ],
)
def test_root_the_daemons_user_and_the_operators_may_act(
    uid: int, groups: tuple[int, ...], operators: int | None, *, may: bool
) -> None:
    assert may_act(Peer(1, uid, frozenset(groups)), 500, operators) is may


def test_every_command_that_changes_something_is_known_as_one() -> None:
    reads = {"status", "why", "plan", "checks", "nhc", "profile"}

    assert set(desk.Desk(None).handlers()) - desk.ACTING == reads  # type: ignore[arg-type]
