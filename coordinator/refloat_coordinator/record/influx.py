# SPDX-License-Identifier: Apache-2.0
"""InfluxDB: events and gauges as lines of line protocol, and how each of its generations (1.x, 2.x, 3.x) takes them."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urlencode

import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write.point import Point
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

from refloat_contract.errors import Refused, Transient
from refloat_contract.messages import Event
from refloat_contract.reasons import one_line
from refloat_coordinator.metrics.gauges import Gauge

T = TypeVar("T")

_MAX_TEXT: Final = 4096
_GRACE_S: Final = 2.0
# 400: a point cannot be parsed, or has a field of another type; 413: too large; 422: outside the retention.
_BLAMES_A_POINT: Final = frozenset({400, 413, 422})
_SUCCESS: Final = range(200, 300)


class BadPoints(Refused):
    """The database will never take at least one of these lines."""


class Writer(Protocol):
    """Writes lines of line protocol, times in nanoseconds. The same line twice is one point."""

    async def write(self, lines: Sequence[str]) -> None:
        """Return when the database has all of them.

        Raises:
            BadPoints: one of them is at fault.
            Transient: the database did not take them now; all of them may be written again.
        """
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


def line(event: Event, measurement: str) -> str:
    """An event as line protocol: what Grafana shows as an annotation, and what it is asked by.

    The time and the tags are the event's alone, so that writing it again is the same point.
    """
    point: Any = Point(measurement)  # type: ignore[no-untyped-call]
    for tag, value in (
        ("host", event.node),
        ("kind", str(event.kind)),
        ("phase", str(event.phase)),
        ("recipe", event.recipe),
        ("check", event.check),
    ):
        point.tag(tag, one_line(value))
    fields = {
        "title": event.title,
        "message": event.message,
        "tags": event.tags,
        "cycle": event.cycle,
        "wave": event.wave,
        "id": event.id,
    }
    for name, value in fields.items():
        # Line protocol separates points by newlines; not every release takes one inside a field.
        point.field(name, one_line(value, _MAX_TEXT))
    if event.operator:
        point.field("operator", one_line(event.operator, _MAX_TEXT))
    point.field("duration_s", event.duration_s)
    for name, measure in event.measures.items():
        # Apart from the fields above, and a float always: a field keeps the type that it first had.
        point.field(f"m_{one_line(name)}", float(measure))
    return str(point.time(event.at_ns).to_line_protocol())


def sampled(gauges: Iterable[Gauge], measurement: str, cluster: str, at_ns: int) -> list[str]:
    """Gauges as line protocol: a measurement for each family, its labels as tags, the number as ``value``."""
    lines = []
    for gauge in gauges:
        family = gauge.family
        point: Any = Point(f"{measurement}_{family.name}")  # type: ignore[no-untyped-call]
        point.tag("cluster", cluster)
        for label, value in ((family.label, gauge.label), (family.label_2, gauge.label_2)):
            if label:
                point.tag(label, one_line(value))
        lines.append(str(point.field("value", float(gauge.value)).time(at_ns).to_line_protocol()))
    return lines


class _Posting:
    """Lines as the body of a POST."""

    def __init__(self, url: str, query: Mapping[str, str], headers: Mapping[str, str], deadline_s: float) -> None:
        self._url = url
        self._query = query
        self._headers = headers
        self._deadline_s = deadline_s
        self._pool = urllib3.PoolManager(maxsize=2, retries=False)

    async def write(self, lines: Sequence[str]) -> None:
        """Write them with one request."""
        body = "\n".join(lines).encode()
        status, said = await _in_thread(partial(self._post, body), self._deadline_s, self._url)
        if status in _SUCCESS:
            return
        raise _error(self._url, status, said)

    def _post(self, body: bytes) -> tuple[int, str]:
        url = f"{self._url}?{urlencode(self._query)}"
        try:
            timeout = urllib3.Timeout(total=self._deadline_s)
            answer = self._pool.request("POST", url, body=body, headers=self._headers, timeout=timeout)
        except urllib3.exceptions.HTTPError as error:
            raise Transient(f"cannot reach {self._url}: {error}") from error
        return answer.status, answer.data.decode(errors="replace")

    async def aclose(self) -> None:
        """Close the connections."""
        self._pool.clear()


class InfluxV1(_Posting):
    """InfluxDB 1.x: ``POST /write?db=…``."""

    def __init__(
        self, url: str, *, db: str, rp: str = "", username: str = "", password: str = "", deadline_s: float
    ) -> None:
        query = {"db": db, "precision": "ns"} | ({"rp": rp} if rp else {})
        headers = urllib3.make_headers(basic_auth=f"{username}:{password}") if username else {}
        super().__init__(f"{url.rstrip('/')}/write", query, headers, deadline_s)


class InfluxV3(_Posting):
    """InfluxDB 3.x: ``POST /api/v3/write_lp?db=…``, answered when the lines are in its log, and all of them or none."""

    def __init__(self, url: str, *, db: str, token: str = "", deadline_s: float) -> None:
        query = {"db": db, "precision": "nanosecond", "accept_partial": "false", "no_sync": "false"}
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        super().__init__(f"{url.rstrip('/')}/api/v3/write_lp", query, headers, deadline_s)


class InfluxV2:
    """InfluxDB 2.x (and what else answers its API, 3.x too), through influxdb-client."""

    def __init__(self, url: str, *, token: str, org: str, bucket: str, deadline_s: float) -> None:
        self._url = url
        self._org = org
        self._bucket = bucket
        self._deadline_s = deadline_s
        self._client: Any = InfluxDBClient(url=url, token=token, org=org, timeout=int(deadline_s * 1000), retries=False)
        self._api: Any = self._client.write_api(write_options=SYNCHRONOUS)

    async def write(self, lines: Sequence[str]) -> None:
        """Write them with one request."""
        await _in_thread(partial(self._write, list(lines)), self._deadline_s, self._url)

    def _write(self, lines: list[str]) -> None:
        try:
            self._api.write(bucket=self._bucket, org=self._org, record=lines, write_precision="ns")
        except ApiException as error:
            raise _error(self._url, int(error.status or 0), str(error.body or error.reason)) from error
        except urllib3.exceptions.HTTPError as error:
            raise Transient(f"cannot reach {self._url}: {error}") from error

    async def aclose(self) -> None:
        """Close the connection."""
        await asyncio.to_thread(self._client.close)


def _error(url: str, status: int, said: str) -> Exception:
    sentence = f"{url} answered {status}: {one_line(said)}"
    return BadPoints(sentence) if status in _BLAMES_A_POINT else Transient(sentence)


async def _in_thread(work: Callable[[], T], deadline_s: float, url: str) -> T:
    try:
        async with asyncio.timeout(deadline_s + _GRACE_S):
            return await asyncio.to_thread(work)
    except TimeoutError as error:
        raise Transient(f"{url} did not answer within {deadline_s:g} s") from error
