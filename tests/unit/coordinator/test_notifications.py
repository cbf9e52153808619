# SPDX-License-Identifier: Apache-2.0
import asyncio
import http.server
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.coordinator.world import FakeClock, event, eventually

from refloat_contract.errors import Misconfigured, Refused, Transient
from refloat_contract.messages import Event
from refloat_contract.words import EventKind
from refloat_coordinator.config import CoordinatorSettings, NotifySettings
from refloat_coordinator.lease import Deposed
from refloat_coordinator.record.ledger import Ledger, open_ledger
from refloat_coordinator.record.notifications import (
    FAILED,
    GIVEN_UP,
    REPEATED,
    TOLD,
    Command,
    Notices,
    Webhook,
    notification,
)
from refloat_coordinator.record.receivers import make_targets


class Pager:
    """A target that notes what it is told, unless it is away."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []
        self.away = 0

    async def tell(self, body: bytes) -> None:
        if self.away:
            self.away -= 1
            raise Transient("no carrier")
        self.told.append([one["id"] for one in json.loads(body)["events"]])


def held(name: str, node: str = "n1", message: str = "") -> Event:
    return event(name, node, EventKind.HOLD, message=message or f"no link on {name}")


def notices(ledger: Ledger, pager: Pager, clock: FakeClock, **options: Any) -> Notices:
    kinds = (EventKind.HOLD, EventKind.WAVE_PAUSED)
    return Notices("pager", pager, ledger, clock, cluster="c", kinds=kinds, spread=lambda _, high: high, **options)


class Running:
    """Notices that run for the time of a test."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, told: Notices) -> Notices:
        self._tasks.append(asyncio.create_task(told.run()))
        await asyncio.sleep(0.02)
        return told

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    running = Running()
    yield running
    await running.stop()


async def test_only_new_events_of_the_kinds_asked_for_are_told(
    ledger: Ledger, clock: FakeClock, running: Running
) -> None:
    pager = Pager()
    await ledger.record([held("old")])
    told = await running.start(notices(ledger, pager, clock))
    await ledger.record([event("other", kind=EventKind.REBOOT), held("new")])
    told.wake()
    await eventually(lambda: pager.told == [["new"]])

    assert told.counts[TOLD] == 1


async def test_a_flood_is_one_notification_and_the_same_thing_is_told_once(
    ledger: Ledger, clock: FakeClock, running: Running
) -> None:
    pager = Pager()
    told = await running.start(notices(ledger, pager, clock))
    await ledger.record([held(f"e{i}", f"n{i}", "no link") for i in range(300)])
    await ledger.record([held("again", "n1", "no link")])
    told.wake()
    await eventually(lambda: told.counts[TOLD] == 300)
    await ledger.record([held("once more", "n1", "no link"), held("else", "n1", "no mount")])
    told.wake()
    await eventually(lambda: told.counts[TOLD] == 301)

    assert [len(ids) for ids in pager.told] == [300, 1]
    assert told.counts[REPEATED] == 2


async def test_after_a_restart_what_was_not_told_is_told_and_nothing_else(tmp_path: Path, clock: FakeClock) -> None:
    pager, running = Pager(), Running()
    first, _ = await open_ledger(tmp_path / "l.sqlite")
    async with first:
        told = await running.start(notices(first, pager, clock))
        await first.record([held("e1")])
        told.wake()
        await eventually(lambda: pager.told == [["e1"]] and told._seen > 0)  # kept, too: else it is told again
        await running.stop()
        await first.record([held("e2")])
    second, _ = await open_ledger(tmp_path / "l.sqlite")
    async with second:
        await running.start(notices(second, pager, clock))
        await eventually(lambda: len(pager.told) == 2)
        await running.stop()

    assert pager.told == [["e1"], ["e2"]]


async def test_a_target_that_is_away_is_tried_again_ever_more_rarely(
    ledger: Ledger, clock: FakeClock, running: Running
) -> None:
    pager = Pager()
    told = await running.start(notices(ledger, pager, clock, pause_s=0))
    pager.away, before = 4, clock.time
    await ledger.record([held("e1")])
    told.wake()
    await eventually(lambda: pager.told == [["e1"]])

    assert told.counts[FAILED] == 4
    assert clock.time - before == 2 + 4 + 8 + 16


async def test_what_cannot_be_told_for_a_day_is_given_up_and_counted(
    ledger: Ledger, clock: FakeClock, running: Running
) -> None:
    pager = Pager()
    told = await running.start(notices(ledger, pager, clock, give_up_s=20))
    pager.away = 5  # at 0, 2, 6, 14 and 30 s
    await ledger.record([held("e1")])
    told.wake()
    await eventually(lambda: told.counts[GIVEN_UP] == 1)
    await ledger.record([held("e2")])
    told.wake()
    await eventually(lambda: pager.told == [["e2"]])

    assert told.counts == {TOLD: 1, FAILED: 5, REPEATED: 0, GIVEN_UP: 1}


async def test_a_coordinator_that_was_deposed_tells_nothing_more(tmp_path: Path, clock: FakeClock) -> None:
    pager = Pager()
    old, _ = await open_ledger(tmp_path / "l.sqlite")
    new, _ = await open_ledger(tmp_path / "l.sqlite")
    async with old, new:
        with pytest.raises(Deposed):
            await notices(old, pager, clock).run()


def test_a_notification_reads_well_and_names_what_is_left_out() -> None:
    told = json.loads(notification("c1", [held(f"e{i}", f"n{i}") for i in range(7)]))

    assert told["text"].splitlines()[:2] == ["refloat on c1:", "n0: Rolling Reboot: no link on e0"]
    assert told["text"].splitlines()[-1] == "and 2 more"
    assert (told["v"], len(told["events"])) == (1, 7)
    assert told["events"][0]["kind"] == "hold"


async def test_a_command_reads_the_notification_and_its_failure_says_why(tmp_path: Path) -> None:
    out = tmp_path / "out"
    await Command(["/usr/bin/tee", str(out)], 10).tell(b'{"a; rm -rf /": 1}')
    assert await asyncio.to_thread(out.read_bytes) == b'{"a; rm -rf /": 1}'

    with pytest.raises(Transient, match="ended with 3: it is late"):
        await Command(["/bin/sh", "-c", "echo it is late >&2; exit 3"], 10).tell(b"{}")
    with pytest.raises(Transient, match="did not end within"):
        await Command(["/bin/sleep", "60"], 0.05).tell(b"{}")
    with pytest.raises(Refused):
        await Command(["/no/such/program"], 10).tell(b"{}")


@pytest.fixture
def hook() -> Iterator[tuple[str, list[tuple[str, str, bytes]], list[int]]]:
    heard: list[tuple[str, str, bytes]] = []
    statuses = [200]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append((self.path, self.headers.get("X-Key", ""), body))
            self.send_response(statuses[0])
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"hm")

        def log_message(self, *args: Any) -> None:
            """Be silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/s3cret", heard, statuses
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_webhook_gets_json_and_headers(hook: tuple[str, list[tuple[str, str, bytes]], list[int]]) -> None:
    url, heard, _ = hook
    await Webhook(url, {"X-Key": "k"}, 5).tell(b"{}")

    assert heard == [("/s3cret", "k", b"{}")]


@pytest.mark.parametrize("status", [302, 403, 500])
async def test_a_webhooks_refusal_is_told_without_its_path(
    hook: tuple[str, list[tuple[str, str, bytes]], list[int]], status: int
) -> None:
    url, heard, statuses = hook
    statuses[0] = status

    with pytest.raises(Transient, match=f"^127.0.0.1 answered {status}: hm$"):
        await Webhook(url, {}, 5).tell(b"{}")
    assert len(heard) == 1
    with pytest.raises(Transient, match=r"^cannot reach 127\.0\.0\.1: \w+$"):
        await Webhook("http://127.0.0.1:1/s3cret", {}, 5).tell(b"{}")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": "a"}, "either command or url"),
        ({"name": "a", "command": ["x"], "url": "https://x"}, "either command or url"),
        ({"name": "a", "url": "http://x", "headers_file": "/f"}, "must begin with https"),
        ({"name": "a", "url": "ftp://x"}, "pattern"),
        ({"name": "a b", "command": ["x"]}, "pattern"),
        ({"name": "a", "command": ["x"], "on": ["explosion"]}, "Input should be"),
    ],
)
def test_settings_that_tell_nobody_are_refused(given: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        NotifySettings.model_validate(given)


def test_two_targets_need_two_names() -> None:
    with pytest.raises(ValueError, match="the same name"):
        CoordinatorSettings.model_validate({"notify": [{"name": "a", "command": ["x"]}] * 2})


def test_headers_come_from_a_file_that_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "headers"
    path.touch(mode=0o600)
    settings = NotifySettings.model_validate({"name": "a", "url": "https://x", "headers_file": path})
    path.write_text("Authorization: Bearer k\n")
    made = make_targets([settings])["a"]
    assert isinstance(made, Webhook)
    assert made._headers["Authorization"] == "Bearer k"
    path.write_text("hunter2\n")
    with pytest.raises(Misconfigured) as caught:
        make_targets([settings])
    assert "hunter2" not in str(caught.value)
