# SPDX-License-Identifier: Apache-2.0
import asyncio
import contextlib
import http.server
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from unit.coordinator.world import T0, FakeClock, event, eventually

from refloat_contract.errors import Transient
from refloat_contract.messages import Event
from refloat_contract.words import EventKind, Phase
from refloat_coordinator.metrics import gauges
from refloat_coordinator.metrics.gauges import Gauge
from refloat_coordinator.record.influx import BadPoints, InfluxV1, InfluxV2, InfluxV3, Writer, line, sampled
from refloat_coordinator.record.ledger import Ledger
from refloat_coordinator.record.outbox import Outbox
from refloat_coordinator.record.samples import Samples


@dataclass
class Asked:
    """A write as it arrived."""

    path: str
    query: dict[str, str]
    authorization: str
    lines: list[str]


@dataclass
class StubInflux:
    """An HTTP server that notes writes, and answers as it is told; points are kept as InfluxDB would: one per key."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    points: dict[str, str] = field(default_factory=dict)
    answer: Callable[[list[str]], tuple[int, str]] = field(default=lambda _: (204, ""))

    def take(self, path: str, authorization: str, body: str) -> tuple[int, str]:
        parts = urlsplit(path)
        lines = body.split("\n")
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.asked.append(Asked(parts.path, query, authorization, lines))
        status, said = self.answer(lines)
        if status == 204:
            self.points.update((f"{text.split(' ')[0]} {text.rsplit(' ', 1)[1]}", text) for text in lines)
        return status, said


@pytest.fixture
def influx() -> Iterator[StubInflux]:
    stub = StubInflux()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            status, said = stub.take(self.path, self.headers.get("Authorization", ""), body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said.encode())

        def log_message(self, *args: Any) -> None:
            """Be silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield stub
    server.shutdown()
    server.server_close()
    thread.join()


@contextlib.asynccontextmanager
async def v1(url: str, **options: str) -> AsyncIterator[InfluxV1]:
    writer = InfluxV1(url, db="slurmlog", deadline_s=5, **options)
    try:
        yield writer
    finally:
        await writer.aclose()


@contextlib.asynccontextmanager
async def v2(url: str) -> AsyncIterator[InfluxV2]:
    writer = InfluxV2(url, token="s3cret", org="hpc", bucket="slurm", deadline_s=5)  # noqa: S106 - no real one
    try:
        yield writer
    finally:
        await writer.aclose()


@contextlib.asynccontextmanager
async def v3(url: str) -> AsyncIterator[InfluxV3]:
    writer = InfluxV3(url, db="slurmlog", token="s3cret", deadline_s=5)  # noqa: S106 - no real one
    try:
        yield writer
    finally:
        await writer.aclose()


def test_a_line_is_what_the_papers_grafana_reads_and_more() -> None:
    told = Event(
        id="n1-b-7",
        node="n1",
        at_ns=1_800_000_000_000_000_001,
        kind=EventKind.PHASE_ENTERED,
        title='Rolling "Reboot"',
        message="first\nsecond",
        phase=Phase.UNMOUNTING,
        recipe="reboot",
        cycle="c1",
        wave="w1",
        duration_s=2.5,
    )

    assert line(told, "slurm") == (
        "slurm,host=n1,kind=phase_entered,phase=UNMOUNTING,recipe=reboot "
        'cycle="c1",duration_s=2.5,id="n1-b-7",message="first second",tags="slurm",'
        'title="Rolling \'Reboot\'",wave="w1" 1800000000000000001'
    )


def test_what_a_check_measured_stands_in_fields_of_its_own() -> None:
    told = event(EventKind.CHECK_FAILED).model_copy(update={"measures": {"load": 98, "duration_s": 0.5}})

    assert "m_duration_s=0.5,m_load=98," in line(told, "slurm")


async def test_1x_is_written_with_its_database_and_precision(influx: StubInflux) -> None:
    async with v1(influx.url, rp="week", username="u", password="p") as writer:  # noqa: S106 - no real one
        await writer.write(["a x=1 1", "b x=2 2"])

    assert influx.asked == [
        Asked("/write", {"db": "slurmlog", "precision": "ns", "rp": "week"}, "Basic dTpw", ["a x=1 1", "b x=2 2"])
    ]


async def test_2x_is_written_with_token_org_bucket_and_precision(influx: StubInflux) -> None:
    async with v2(influx.url) as writer:
        await writer.write(["a x=1 1", "b x=2 2"])

    query = {"org": "hpc", "bucket": "slurm", "precision": "ns"}
    assert influx.asked == [Asked("/api/v2/write", query, "Token s3cret", ["a x=1 1", "b x=2 2"])]


async def test_3x_is_written_all_or_nothing_and_when_it_is_safe(influx: StubInflux) -> None:
    async with v3(influx.url) as writer:
        await writer.write(["a x=1 1", "b x=2 2"])

    query = {"db": "slurmlog", "precision": "nanosecond", "accept_partial": "false", "no_sync": "false"}
    assert influx.asked == [Asked("/api/v3/write_lp", query, "Bearer s3cret", ["a x=1 1", "b x=2 2"])]


@pytest.mark.parametrize("make", [v1, v2, v3])
@pytest.mark.parametrize(
    ("status", "error"),
    [(400, BadPoints), (413, BadPoints), (422, BadPoints), (401, Transient), (404, Transient), (503, Transient)],
)
async def test_what_an_answer_means(
    influx: StubInflux,
    make: Callable[[str], contextlib.AbstractAsyncContextManager[Writer]],
    status: int,
    error: type[Exception],
) -> None:
    influx.answer = lambda _: (status, '{"error":"partial write: field type conflict dropped=1"}')

    async with make(influx.url) as writer:
        with pytest.raises(error, match=rf"answered {status}: .*partial write"):
            await writer.write(["a x=1 1"])


@pytest.mark.parametrize("make", [v1, v2, v3])
async def test_nobody_there_is_transient(
    make: Callable[[str], contextlib.AbstractAsyncContextManager[Writer]],
) -> None:
    async with make("http://127.0.0.1:1") as writer:
        with pytest.raises(Transient, match="cannot reach"):
            await writer.write(["a x=1 1"])


class FailingWriter:
    """Takes lines unless told otherwise."""

    def __init__(self, *, outages: int = 0) -> None:
        self.outages = outages
        self.written: list[str] = []

    async def write(self, lines: list[str]) -> None:
        if self.outages:
            self.outages -= 1
            raise Transient("influx1:8086 refused the connection")
        self.written += lines

    async def aclose(self) -> None:
        """Nothing to close."""


def outbox(ledger: Ledger, writer: Any, clock: FakeClock) -> Outbox:
    return Outbox(ledger, writer, clock, measurement="slurm", spread=lambda _, high: high)


async def until_empty(ledger: Ledger, box: Outbox) -> None:
    running = asyncio.create_task(box.run())

    async def is_empty() -> bool:
        return not await ledger.pending(1)

    await eventually(is_empty)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_after_an_outage_nothing_is_missing_and_nothing_is_twice(ledger: Ledger, influx: StubInflux) -> None:
    await ledger.record([event(f"e{i}", at_ns=i) for i in range(1200)])
    answers = iter([(204, ""), (503, "starting"), (500, "timeout after the write"), *[(204, "")] * 99])
    influx.answer = lambda _: next(answers)
    clock = FakeClock()
    async with v1(influx.url) as writer:
        await until_empty(ledger, outbox(ledger, writer, clock))

    assert [len(asked.lines) for asked in influx.asked] == [500, 500, 500, 500, 200]
    assert len(influx.points) == 1200
    assert clock.time == T0 + 1 + 2  # backed off twice, longer the second time


async def test_a_point_that_is_never_taken_is_set_aside_and_blocks_nobody(ledger: Ledger, influx: StubInflux) -> None:
    await ledger.record([event(f"e{i}", at_ns=i) for i in range(40)])
    influx.answer = lambda lines: (
        (400, "field type conflict") if any('id="e17"' in text for text in lines) else (204, "")
    )
    async with v1(influx.url) as writer:
        box = outbox(ledger, writer, FakeClock())
        await box.deliver()

    assert box.rejected == 1
    assert len(influx.points) == 39
    assert (await ledger.backlog()).rejected == 1


async def test_the_back_off_grows_and_ends(ledger: Ledger) -> None:
    await ledger.record([event()])
    clock, writer = FakeClock(), FailingWriter(outages=9)
    await until_empty(ledger, outbox(ledger, writer, clock))

    assert clock.time - T0 == 1 + 2 + 4 + 8 + 16 + 32 + 60 + 60 + 60
    assert len(writer.written) == 1


async def test_what_was_set_aside_is_tried_again_at_the_next_start(ledger: Ledger) -> None:
    await ledger.record([event()])
    await ledger.reject((await ledger.pending(1))[0].seq, "field type conflict")
    writer = FailingWriter()
    box = outbox(ledger, writer, FakeClock())
    running = asyncio.create_task(box.run())

    async def is_delivered() -> bool:
        backlog = await ledger.backlog()
        return backlog.waiting + backlog.rejected == 0

    await eventually(is_delivered)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert len(writer.written) == 1


def test_the_check_is_a_tag_so_that_it_can_be_grouped_by() -> None:
    told = event(kind=EventKind.CHECK_FAILED).model_copy(update={"check": "mount /scratch"})

    assert line(told, "slurm").startswith(
        "slurm,check=mount\\ /scratch,host=n1,kind=check_failed,phase=IN_SERVICE,recipe=reboot "
    )


def test_gauges_are_measurements_of_their_own() -> None:
    given = [Gauge(gauges.NODES, 3, "DRAINING"), Gauge(gauges.WAVES, 2, "w1", "marked"), Gauge(gauges.OUT, 4)]

    assert sampled(given, "slurm", "c1", 60 * 10**9) == [
        "slurm_nodes,cluster=c1,phase=DRAINING value=3 60000000000",
        "slurm_wave_nodes,cluster=c1,turn=marked,wave=w1 value=2 60000000000",
        "slurm_nodes_out,cluster=c1 value=4 60000000000",
    ]


async def test_samples_of_one_period_are_the_same_points(influx: StubInflux) -> None:
    clock = FakeClock()
    async with v1(influx.url) as writer:
        samples = Samples(lambda: [Gauge(gauges.OUT, 4)], writer, clock, measurement="slurm", cluster="c1", period_s=30)
        await samples.write()
        clock.time += 29
        await samples.write()
        clock.time += 1
        influx.answer = lambda _: (503, "starting")
        await samples.write()

    assert len(influx.asked) == 3
    assert list(influx.points) == [f"slurm_nodes_out,cluster=c1 {int(T0) * 10**9}"]
