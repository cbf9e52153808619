# SPDX-License-Identifier: Apache-2.0
import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from refloat_contract.errors import (
    BadMessage,
    Corrupt,
    Misconfigured,
    RefloatError,
    Refused,
    Transient,
    UnknownNode,
)
from refloat_contract.messages import WaveSpec
from refloat_service import control
from refloat_service.control import ControlServer


class Handlers:
    """The commands of the tests."""

    def __init__(self) -> None:
        self.stream_ended = asyncio.Event()
        self.table: dict[str, control.Handler] = {
            "echo": self.echo,
            "spec": self.spec,
            "fail": self.fail,
            "count": self.count,
            "wait": self.wait,
            "endless": self.endless,
            "broken": self.broken,
        }

    async def echo(self, arguments: dict[str, Any]) -> Any:
        return arguments

    async def spec(self, arguments: dict[str, Any]) -> Any:
        return {"spec": WaveSpec(nodes="n[1-4]"), "path": Path("/x")}

    async def fail(self, arguments: dict[str, Any]) -> Any:
        kinds = (Transient, Refused, UnknownNode, BadMessage, Misconfigured, Corrupt)
        raise {kind.__name__: kind for kind in kinds}[arguments["kind"]]("because")

    async def broken(self, arguments: dict[str, Any]) -> Any:
        raise TimeoutError("a fault of ours")

    async def wait(self, arguments: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    async def count(self, arguments: dict[str, Any]) -> AsyncIterator[int]:
        for n in range(arguments["to"]):
            yield n
        if arguments.get("fail"):
            raise Transient("lost count")

    async def endless(self, arguments: dict[str, Any]) -> AsyncIterator[str]:
        try:
            yield "first"
            await asyncio.Event().wait()
        finally:
            self.stream_ended.set()


@contextlib.asynccontextmanager
async def serving(path: Path, handlers: Handlers | None = None, **options: Any) -> AsyncIterator[ControlServer]:
    server = ControlServer(path, (handlers or Handlers()).table, **options)
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(5):
            while not path.exists() and not task.done():  # noqa: ASYNC110, ASYNC240 - a file has no event
                await asyncio.sleep(0.005)
        yield server
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def items(path: Path, command: str, **arguments: Any) -> list[Any]:
    return [item async for item in control.stream(path, command, **arguments)]


async def test_a_call_brings_its_arguments_there_and_the_answer_back(tmp_path: Path) -> None:
    async with serving(tmp_path / "c.sock"):
        assert await control.call(tmp_path / "c.sock", "echo", n=1, text="ü\n") == {"n": 1, "text": "ü\n"}


async def test_an_answer_may_hold_models_and_paths(tmp_path: Path) -> None:
    async with serving(tmp_path / "c.sock"):
        answer = await control.call(tmp_path / "c.sock", "spec")

    assert WaveSpec.model_validate(answer["spec"]).nodes == "n[1-4]"
    assert answer["path"] == "/x"


@pytest.mark.parametrize("kind", [Transient, Refused, UnknownNode, BadMessage, Misconfigured, Corrupt])
async def test_an_error_comes_back_as_what_it_was(kind: type[RefloatError], tmp_path: Path) -> None:
    async with serving(tmp_path / "c.sock"):
        with pytest.raises(RefloatError) as caught:
            await control.call(tmp_path / "c.sock", "fail", kind=kind.__name__)

    assert type(caught.value) is kind
    assert str(caught.value) == "because"


async def test_a_fault_in_a_handler_is_told_and_logged_and_the_next_call_works(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with serving(tmp_path / "c.sock"):
            with pytest.raises(RefloatError, match=r"broken failed inside the daemon \(TimeoutError\)"):
                await control.call(tmp_path / "c.sock", "broken")
            assert await control.call(tmp_path / "c.sock", "echo") == {}

    assert [(entry["event"], entry["exc_info"]) for entry in logs] == [("control_command_failed", True)]


async def test_a_stream_ends_when_the_handler_ends(tmp_path: Path) -> None:
    async with serving(tmp_path / "c.sock"):
        assert await items(tmp_path / "c.sock", "count", to=3) == [0, 1, 2]


async def test_an_error_in_a_stream_comes_after_its_items(tmp_path: Path) -> None:
    got: list[int] = []
    async with serving(tmp_path / "c.sock"):
        with pytest.raises(Transient, match="lost count"):  # noqa: PT012 - what came before the error is wanted
            async for item in control.stream(tmp_path / "c.sock", "count", to=2, fail=True):
                got.append(item)  # noqa: PERF401 - the same

    assert got == [0, 1]


async def test_a_silent_stream_ends_in_the_daemon_when_the_client_leaves(tmp_path: Path) -> None:
    handlers = Handlers()
    async with serving(tmp_path / "c.sock", handlers):
        async with contextlib.aclosing(control.stream(tmp_path / "c.sock", "endless")) as stream:
            assert await anext(stream) == "first"
        async with asyncio.timeout(5):
            await handlers.stream_ended.wait()


async def test_a_daemon_that_stops_tells_those_who_wait(tmp_path: Path) -> None:
    async with contextlib.aclosing(control.stream(tmp_path / "coordinator.sock", "endless")) as stream:
        async with serving(tmp_path / "coordinator.sock"):
            assert await anext(stream) == "first"

        with pytest.raises(Transient, match="refloat-coordinator went away"):
            await anext(stream)


async def test_no_answer_in_time_is_transient(tmp_path: Path) -> None:
    async with serving(tmp_path / "c.sock"):
        with pytest.raises(Transient, match=r"no answer from .* within 0\.05 s"):
            await control.call(tmp_path / "c.sock", "wait", deadline_s=0.05)


async def test_where_nobody_listens_it_says_what_to_start(tmp_path: Path) -> None:
    with pytest.raises(Transient, match=r"agent\.sock \(no such socket\): start it \(systemctl start refloat-agent\)"):
        await control.call(tmp_path / "agent.sock", "status")


async def test_an_unknown_command_names_the_known_ones(tmp_path: Path) -> None:
    async with serving(tmp_path / "c.sock"):
        with pytest.raises(Refused, match=r"unknown command 'x' \(known here: broken, count, echo"):
            await control.call(tmp_path / "c.sock", "x")


async def test_a_socket_left_by_a_crash_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "c.sock"))

    async with serving(tmp_path / "c.sock") as _:
        async with asyncio.timeout(5):
            while True:
                with contextlib.suppress(Transient):
                    assert await control.call(tmp_path / "c.sock", "echo") == {}
                    break
                await asyncio.sleep(0.005)


async def test_a_second_daemon_is_told_that_one_runs(tmp_path: Path) -> None:
    async with serving(tmp_path / "c.sock"):
        with pytest.raises(Misconfigured, match="already running"):
            await ControlServer(tmp_path / "c.sock", {}).serve()
        assert await control.call(tmp_path / "c.sock", "echo") == {}


async def test_the_socket_has_its_mode_and_goes_away_with_its_server(tmp_path: Path) -> None:
    async with serving(tmp_path / "c.sock", mode=0o660):
        assert (tmp_path / "c.sock").stat().st_mode & 0o777 == 0o660

    assert not list(tmp_path.iterdir())  # noqa: ASYNC240 - a look at one small directory


async def test_a_server_that_is_told_to_stop_while_it_starts_leaves_no_socket(tmp_path: Path) -> None:
    server = ControlServer(tmp_path / "c.sock", {})
    bind = server._bind
    bound = threading.Event()

    def slow() -> Any:
        made = bind()
        bound.set()
        time.sleep(0.05)
        return made

    server._bind = slow  # type: ignore[method-assign]
    serving = asyncio.create_task(server.serve())
    await asyncio.to_thread(bound.wait)
    serving.cancel()
    await asyncio.wait({serving})

    assert serving.cancelled()
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240 - a look at one small directory


@pytest.mark.parametrize(
    ("options", "said"), [({"group": "no-such-group"}, "no such group"), ({}, "No such file or directory")]
)
async def test_a_socket_that_cannot_be_made_is_misconfigured(
    options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.sock" if options else tmp_path / "none" / "c.sock"

    with pytest.raises(Misconfigured, match=f"cannot make .*{said}"):
        await ControlServer(path, {}, **options).serve()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "not JSON"),
        (b"[]", "not {"),
        (b'{"command": 5}', "not {"),
        (b'{"command": "echo", "arguments": []}', "not {"),
        (b'"' + b"x" * control.REQUEST_CAP_BYTES + b'"', "larger than"),
    ],
    ids=["torn", "list", "number", "arguments", "large"],
)
async def test_a_request_that_cannot_be_read_is_answered(line: bytes, said: str, tmp_path: Path) -> None:
    async with serving(tmp_path / "c.sock"):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "c.sock")
        writer.write(line + b"\n")
        answer = json.loads(await reader.readline())
        writer.close()
        await writer.wait_closed()

    assert answer["error"]["kind"] == "bad_message"
    assert said in answer["error"]["message"]
