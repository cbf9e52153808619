# SPDX-License-Identifier: Apache-2.0
import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from refloat_service import callers, control
from refloat_service.callers import CALLER, Caller
from refloat_service.control import ControlServer
from refloat_service.peers import Peer


def process(proc: Path, loginuid: str) -> int:
    (proc / "7").mkdir()
    (proc / "7" / "loginuid").write_text(loginuid)
    return 7


@pytest.mark.parametrize(
    ("uid", "loginuid", "said"),
    [
        (0, "4294967295", "root"),  # a daemon, or a container without audit
        (0, "0", "root"),
        (0, "987654321", "uid 987654321 as root"),  # behind sudo
        (987654321, "987654321", "uid 987654321"),
        (0, "garbage", "root"),
    ],
)
def test_behind_sudo_the_login_is_named(tmp_path: Path, uid: int, loginuid: str, said: str) -> None:
    peer = Peer(process(tmp_path, loginuid), uid, frozenset())

    assert callers._name(peer, tmp_path) == said


def test_a_process_that_is_gone_is_named_by_its_user(tmp_path: Path) -> None:
    assert callers._name(Peer(8, 0, frozenset()), tmp_path) == "root"


def served(path: Path) -> None:
    """Wait until the socket is there; the test's own time limit ends a wait in vain."""
    while not path.exists():
        time.sleep(0.005)


async def test_a_handler_knows_who_asked_and_nobody_else_does(tmp_path: Path) -> None:
    async def who(_arguments: dict[str, Any]) -> list[Any]:
        caller = CALLER.get()
        assert caller is not None
        assert caller.peer is not None
        return [caller.peer.uid, caller.may_act, await callers.name()]

    path = tmp_path / "s"
    server = ControlServer(path, {"who": who})
    task = asyncio.create_task(server.serve())
    await asyncio.to_thread(served, path)
    said = await control.call(path, "who")
    task.cancel()

    assert said[:2] == [os.getuid(), True]
    assert said[2].endswith(callers.user_of(os.getuid()))
    assert CALLER.get() is None
    assert await callers.name() == ""


async def test_who_may_only_read_is_known_too() -> None:
    token = CALLER.set(Caller(Peer(0, 987654321, frozenset()), may_act=False))
    try:
        assert await callers.name() == "uid 987654321"
    finally:
        CALLER.reset(token)


async def test_an_operator_over_mqtt_is_named_with_the_way() -> None:
    caller = Caller(None, may_act=True, operator="alice")
    token = CALLER.set(caller)
    try:
        assert await callers.name() == "alice over MQTT"
    finally:
        CALLER.reset(token)

    assert not caller.is_at_home(os.geteuid())
