# SPDX-License-Identifier: Apache-2.0
"""The shipped dashboards ask only for what the coordinator writes."""

import asyncio
import itertools
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from brokers import free_port
from unit.coordinator.world import event, wave_over

from refloat_contract.messages import Event
from refloat_contract.words import EventKind, Phase, Turn, Verdict
from refloat_coordinator.metrics import gauges
from refloat_coordinator.metrics.gauges import Gauge
from refloat_coordinator.metrics.prometheus import Metrics
from refloat_coordinator.record.influx import InfluxV1, line, sampled

FOLDER = Path(__file__).parents[3] / "packaging" / "grafana"
INFLUX = json.loads((FOLDER / "refloat-influxdb.json").read_text())
PROMETHEUS = json.loads((FOLDER / "refloat-prometheus.json").read_text())
WORDS = {"kind": EventKind, "phase": Phase, "verdict": Verdict, "turn": Turn}


def told() -> list[Event]:
    """An event of each kind, with all that any event may have."""
    measures = {f"{phase.lower()}_s": 1.5 for phase in Phase}
    facts = {"check": "mounts", "duration_s": 60.0, "measures": measures, "phase": Phase.DRAINING}
    return [
        event(f"e{i}", kind=kind, at_ns=1_800_000_000 * 10**9 + i).model_copy(update=facts)
        for i, kind in enumerate(EventKind)
    ]


def counted() -> list[Gauge]:
    """A number of each family that tells of the nodes."""
    labels = {"phase": "HELD", "verdict": "UNHEALTHY", "wave": wave_over("n1").id, "turn": "done"}
    return [
        Gauge(family, 1, labels.get(family.label, "x") if family.label else "", labels.get(family.label_2, ""))
        for family in gauges.FLEET
    ]


def points() -> list[str]:
    return [line(one, "slurm") for one in told()] + sampled(counted(), "slurm", "c1", 1_800_000_000 * 10**9)


def columns() -> dict[str, set[str]]:
    """The tags and fields of each measurement, from the lines themselves."""
    found: dict[str, set[str]] = {}
    for text in points():
        names = re.findall(r"([A-Za-z_]\w*)=", re.sub(r'"(\\.|[^"\\])*"', '""', text))
        found.setdefault(re.split(r"[, ]", text)[0], {"time"}).update(names)
    return found


def influx_queries() -> list[str]:
    annotations = [one["query"] for one in INFLUX["annotations"]["list"]]
    return annotations + [target["query"] for panel in INFLUX["panels"] for target in panel["targets"]]


def prometheus_queries() -> list[str]:
    annotations = [one["expr"] for one in PROMETHEUS["annotations"]["list"]]
    return annotations + [target["expr"] for panel in PROMETHEUS["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("query", influx_queries())
def test_an_influxql_query_names_only_what_is_written(query: str) -> None:
    plain = query.replace("${measurement}", "slurm")
    (measurement,) = re.findall(r'FROM "(\w+)"', plain)
    aliases = set(re.findall(r'AS "(\w+)"', plain))
    named = set(re.findall(r'"(\w+)"', plain)) - {measurement} - aliases
    known = columns()

    assert measurement in known
    assert named <= known[measurement]
    for tag, value in re.findall(r"\"(\w+)\" = '(\w+)'", plain):
        assert value in {str(word) for word in WORDS[tag]}


def test_the_times_of_all_phases_that_an_agent_can_time_are_shown() -> None:
    shown = set(re.findall(r"m_(\w+)_s", " ".join(influx_queries())))

    assert shown == {phase.lower() for phase in Phase} - {"in_service", "held", "rebooting", "resuming"}


async def test_a_prometheus_query_names_only_what_is_exposed() -> None:
    async def read() -> list[Gauge]:
        labelled = [Gauge(family, 1, *(["x"] * bool(family.label))) for family in gauges.DAEMON]
        return [*counted(), *labelled]

    metrics = Metrics(read)
    for one in told():
        metrics.tally(one)
    text = (await metrics.page()).body.decode()
    known: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(refloat_\w+)(?:\{(.*)\})? ", text, flags=re.MULTILINE):
        known.setdefault(name, set()).update(re.findall(r"(\w+)=", labels))

    for query in prometheus_queries():
        names = re.findall(r"refloat_\w+", query)
        assert names
        assert set(names) <= known.keys()
        of_all = set.union(*(known[name] for name in names))
        by = {label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")}
        matched = re.findall(r"(\w+)=~?\"([\w|]+)\"", query)
        assert by | {label for label, _ in matched} <= of_all
        for label, values in matched:
            assert set(values.split("|")) <= {str(word) for word in WORDS[label]}


@pytest.mark.parametrize("dashboard", [INFLUX, PROMETHEUS])
def test_a_dashboard_is_whole(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    places = [panel["gridPos"] for panel in panels]

    assert dashboard["uid"].startswith("refloat-")
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] and panel["description"] for panel in panels)
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels)
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in itertools.combinations(places, 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


def test_what_provisions_them_can_be_read() -> None:
    files = list((FOLDER / "provisioning").rglob("*.yaml"))

    assert len(files) == 2
    assert all(yaml.safe_load(path.read_text())["apiVersion"] == 1 for path in files)


@pytest.fixture
def influxd(tmp_path: Path) -> Iterator[str]:
    program = shutil.which("influxd")
    if program is None:
        pytest.skip("influxd (InfluxDB 1.x) is not installed")
    port, rpc = free_port(), free_port()
    config = tmp_path / "influxdb.conf"
    config.write_text(
        f'reporting-disabled = true\nbind-address = "127.0.0.1:{rpc}"\n'
        f'[meta]\ndir = "{tmp_path}/meta"\n[data]\ndir = "{tmp_path}/data"\nwal-dir = "{tmp_path}/wal"\n'
        f'[http]\nbind-address = "127.0.0.1:{port}"\n'
    )
    process = subprocess.Popen([program, "-config", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait()


def ask(url: str, query: str) -> Any:
    body = urllib.parse.urlencode({"q": query, "db": "slurmlog"}).encode()
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"{url}/query", data=body, timeout=10) as answer:  # noqa: S310 - our own
                return json.load(answer)["results"][0]
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.mark.timeout(60)
async def test_a_real_influxdb_answers_every_query_with_something(influxd: str) -> None:
    await asyncio.to_thread(ask, influxd, "CREATE DATABASE slurmlog")
    writer = InfluxV1(influxd, db="slurmlog", deadline_s=10)
    for _ in range(2):  # the second time overwrites the first
        await writer.write(points())
    await writer.aclose()
    count = await asyncio.to_thread(ask, influxd, 'SELECT count("title") FROM "slurm"')
    assert count["series"][0]["values"][0][1] == len(told())

    for query in influx_queries():
        plain = query.replace("${measurement}", "slurm").replace("$__interval", "1m")
        plain = plain.replace("$timeFilter", "time > 1799999000s AND time < 1800000600s")
        answer = await asyncio.to_thread(ask, influxd, plain)
        assert "error" not in answer, (plain, answer)
        assert answer.get("series"), plain
