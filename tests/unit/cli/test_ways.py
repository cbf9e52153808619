# SPDX-License-Identifier: Apache-2.0
"""Which way a command asks, and how what the socket streams is looked for over MQTT."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from daemons import Refloat

from refloat_cli import asking, remote
from refloat_cli.operator_file import OperatorSettings
from refloat_cli.pki import authority
from refloat_cli.remote import BrokerWay
from refloat_cli.ways import SocketWay, Way
from refloat_contract.errors import Misconfigured
from refloat_service.mqtt import MqttSettings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An operator's file."""
    (tmp_path / "operator.toml").write_text('cluster = "hpc1"\n[mqtt]\nport = 1\nusername = "refloat-operator-alice"\n')
    return tmp_path / "operator.toml"


def is_remote(way: Way) -> bool:
    return isinstance(way, BrokerWay) and way.settings.cluster == "hpc1"


def test_what_is_named_nowhere_is_the_socket_as_ever() -> None:
    assert asking.coordinator(None, None) == SocketWay(asking.COORDINATOR)


def test_a_broker_is_named_by_option_or_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_remote(asking.coordinator(None, file))
    monkeypatch.setenv("REFLOAT_BROKER", str(file))

    assert is_remote(asking.coordinator(None, None))
    assert is_remote(asking.either(None, None))


def test_what_is_said_goes_before_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFLOAT_COORDINATOR_SOCKET", "/usual.sock")
    assert is_remote(asking.coordinator(Path("/usual.sock"), file))  # the option has what the environment says
    monkeypatch.setenv("REFLOAT_BROKER", str(file))

    assert is_remote(asking.coordinator(Path("/usual.sock"), file))
    assert asking.coordinator(Path("/said.sock"), None) == SocketWay(Path("/said.sock"))


def test_who_names_both_is_asked_which(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Misconfigured, match="both a socket and a broker are named"):
        asking.coordinator(Path("/said.sock"), file)
    monkeypatch.setenv("REFLOAT_COORDINATOR_SOCKET", "/usual.sock")
    monkeypatch.setenv("REFLOAT_BROKER", str(file))
    with pytest.raises(Misconfigured, match="say one of --socket"):
        asking.coordinator(Path("/usual.sock"), None)


@pytest.mark.parametrize(
    "words",
    [["status"], ["why", "n1"], ["events"], ["budget"], ["breaker", "list"], ["wave", "list"], ["wave", "pause", "w1"]],
)
def test_a_broker_that_is_away_is_one_line_and_3(refloat: Refloat, file: Path, words: list[str]) -> None:
    ended = refloat(*words, "--broker", file)

    assert ended.status == 3
    assert ended.err.startswith("refloat: no connection to the broker at localhost:1: ")
    assert ended.err.endswith(": see that the broker runs and is reachable\n")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is not the name of an operator: refloat-operator-USER (refloat pki issue --role operator USER"),
        ('[mqtt]\nusername = "n1"\n', "'n1' is not the name of an operator"),
        ('[mqtt]\ntls = true\ncert_file = "/none.pem"\nkey_file = "/none.key"\n', "mqtt.key_file"),
        ('[mqtt]\nhost = "ctl"\n', "ctl is another machine: set tls = true"),
        ("socket = 1\n", "socket: unknown key"),
    ],
)
def test_a_file_that_is_wrong_is_2(refloat: Refloat, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "operator.toml").write_text(text)
    ended = refloat("wave", "list", "--broker", tmp_path / "operator.toml")

    assert ended.status == 2
    assert says in ended.err


def test_a_key_that_others_can_read_is_refused(refloat: Refloat, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    pair = authority.issue(
        authority.new_authority("ca", now, 9), authority.Role.OPERATOR, "refloat-operator-alice", now, 9
    )
    (tmp_path / "a.pem").write_bytes(pair.certificate_pem())
    (tmp_path / "a.key").write_bytes(pair.key_pem())
    (tmp_path / "a.key").chmod(0o644)
    file = tmp_path / "operator.toml"
    file.write_text(f'[mqtt]\ntls = true\ncert_file = "{tmp_path}/a.pem"\nkey_file = "{tmp_path}/a.key"\n')
    mqtt = MqttSettings(tls=True, cert_file=tmp_path / "a.pem", key_file=tmp_path / "a.key")

    ended = refloat("status", "--broker", file)

    assert remote.name_at(mqtt) == "refloat-operator-alice"
    assert ended.status == 2
    assert "mqtt.key_file" in ended.err


class Coordinator:
    """What answers over MQTT: the newest of a list of events that grows, and a wave as it is told."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.waves: list[dict[str, Any]] = []
        self.limits: list[int] = []
        self.soon = range(0)  # what happens once the past has been asked for

    async def call(self, command: str, _deadline_s: float = 10.0, **arguments: Any) -> Any:
        if command == "wave_show":
            return self.waves.pop(0) if len(self.waves) > 1 else self.waves[0]
        self.limits.append(arguments["limit"])
        found = self.events[-arguments["limit"] :]
        if len(self.limits) == 2:
            self.happens(*self.soon)
        return found

    def happens(self, *numbers: int) -> None:
        self.events += [{"id": f"e{number}"} for number in numbers]


@pytest.fixture
def way(monkeypatch: pytest.MonkeyPatch) -> BrokerWay:
    monkeypatch.setattr(remote, "LOOK_S", 0.0)
    return BrokerWay(OperatorSettings())


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch) -> Coordinator:
    """Asked in place of a broker, which the tests of tests/broker have."""
    answering = Coordinator()

    @contextlib.asynccontextmanager
    async def session(_way: BrokerWay, _deadline_s: float = 1.0) -> AsyncIterator[Coordinator]:
        yield answering

    monkeypatch.setattr(BrokerWay, "_session", session)
    return answering


async def test_following_tells_every_event_once_however_many_come_at_once(
    way: BrokerWay, coordinator: Coordinator
) -> None:
    coordinator.happens(*range(80))
    told: list[str] = []
    async with contextlib.aclosing(way.follow({"limit": 3, "kinds": ["hold"]})) as followed:
        async for event in followed:
            told.append(event["id"])
            if len(told) == 3:
                coordinator.happens(80, 81)
            if len(told) == 5:
                coordinator.happens(*range(82, 700))  # more than one look shows
            if len(told) == 3 + 620:
                coordinator.happens(700)
            if told[-1] == "e700":
                break

    assert told == [f"e{number}" for number in range(77, 701)]
    assert max(coordinator.limits) == 5000


async def test_following_begins_where_nothing_has_happened_yet(way: BrokerWay, coordinator: Coordinator) -> None:
    told: list[str] = []
    coordinator.soon = range(70)
    async with contextlib.aclosing(way.follow({"limit": 9})) as followed:
        async for event in followed:
            told.append(event["id"])
            if len(told) == 70:
                break

    assert told == [f"e{number}" for number in range(70)]


async def test_watching_tells_each_change_and_ends_with_the_wave(way: BrokerWay, coordinator: Coordinator) -> None:
    def shown(state: str) -> dict[str, Any]:
        return {"report": {"id": "w1", "spec": {"nodes": "n1"}, "state": state}, "nodes": []}

    coordinator.waves = [shown(state) for state in ("running", "running", "paused", "running", "done")]

    assert [view["report"]["state"] async for view in way.watch("w1")] == ["running", "paused", "running", "done"]
