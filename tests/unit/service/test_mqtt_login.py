# SPDX-License-Identifier: Apache-2.0
"""Plain text only where it is asked for; and in words, what broker and client hold against each other."""

import asyncio
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from refloat_cli.pki import authority
from refloat_contract.errors import Misconfigured
from refloat_service import mqtt_login
from refloat_service.mqtt import Link
from refloat_service.mqtt_settings import MqttSettings, is_this_machine


@pytest.mark.parametrize("host", ["ctl", "10.0.0.1", "localhost.evil.org", "::2", "127.0.0.1.evil.org", "0.0.0.0"])  # noqa: S104
def test_plain_text_to_another_machine_is_refused_unless_it_is_asked_for(host: str) -> None:
    with pytest.raises(ValidationError, match="is another machine: set tls = true"):
        MqttSettings(host=host)
    with pytest.raises(ValidationError, match="is another machine: set tls = true"):
        MqttSettings(host=host, username="n1", password_file=Path("/etc/refloat/password"))

    assert MqttSettings(host=host, tls=False).is_exposed
    assert not MqttSettings(host=host, tls=True).is_exposed


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "broker.localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"]
)
def test_what_does_not_leave_this_machine_may_be_plain_text(host: str) -> None:
    assert is_this_machine(host)
    assert not MqttSettings(host=host).is_exposed


async def test_plain_text_that_was_asked_for_is_told_in_the_log() -> None:
    link = Link(MqttSettings(host="192.0.2.1", tls=False), client_id="c")

    with capture_logs() as logs:
        task = asyncio.create_task(link.run())
        async with asyncio.timeout(5):
            while not logs:  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert (logs[0]["event"], logs[0]["log_level"]) == ("plain_text", "warning")


@pytest.mark.parametrize("name", ["password_file", "key_file"])
async def test_a_secret_that_others_can_read_ends_the_daemon_at_its_start(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush")
    (tmp_path / "secret").chmod(0o604)
    keys: dict[str, Any] = {"username": "n1"} if name == "password_file" else {"tls": True, "cert_file": tmp_path / "c"}
    link = Link(MqttSettings(**keys, **{name: tmp_path / "secret"}), client_id="c")

    with pytest.raises(Misconfigured, match=rf"mqtt\.{name}: .*everybody \(mode 0604\)") as refused:
        await link.run()

    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("alert", "why", "advice"),
    [
        ("[SSL] sslv3 alert certificate expired", "has expired", "refloat pki renew"),
        ("[SSL] sslv3 alert certificate revoked", "was revoked", "refloat pki renew"),
        ("[SSL] tlsv1 alert unknown ca", "trusts another authority", "refloat pki issue"),
        ("[SSL] tlsv13 alert certificate required", "none was shown", "set mqtt.cert_file"),
        ("[SSL] sslv3 alert bad certificate", "not valid yet", "refloat pki renew"),
        ("[SSL] sslv3 alert unsupported certificate", "not one for clients", "refloat pki renew"),
        ("[Errno 104] Connection reset by peer", "hung up", "look at mqtt.tls and mqtt.port"),
        ("", "did not say why", "look at mqtt.tls and mqtt.port"),
    ],
)
def test_what_a_broker_holds_against_us_is_said_in_words_with_what_to_do(alert: str, why: str, advice: str) -> None:
    settings = MqttSettings(tls=True, cert_file=Path("/etc/refloat/n1.pem"), key_file=Path("/etc/refloat/n1.key"))

    said = mqtt_login.refusal(alert, settings)

    assert why in said
    assert "SSL" not in alert or "/etc/refloat/n1.pem" in said
    assert advice in mqtt_login.hint(said)


async def test_a_broker_that_hangs_up_is_told_at_once_and_not_after_the_connect_deadline() -> None:
    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, family=socket.AF_INET)
    link = Link(MqttSettings(host="127.0.0.1", port=server.sockets[0].getsockname()[1]), client_id="c")
    async with server:
        with capture_logs() as logs:
            task = asyncio.create_task(link.run())
            async with asyncio.timeout(5):
                while not logs:  # noqa: ASYNC110 - a log has no event
                    await asyncio.sleep(0.005)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    assert logs[0]["event"] == "broker_unreachable"


def with_certificate(folder: Path, days: int) -> MqttSettings:
    now = datetime.now(UTC)
    made = authority.issue(authority.new_authority("ca", now, 400), authority.Role.NODE, "n1", now, days)
    (folder / "n1.pem").write_bytes(made.certificate_pem())
    return MqttSettings(tls=True, cert_file=folder / "n1.pem", key_file=folder / "n1.key")


async def test_a_certificate_that_ends_soon_is_told_once_a_day_while_there_is_time(tmp_path: Path) -> None:
    link = Link(with_certificate(tmp_path, 10), client_id="c")

    with capture_logs() as logs:
        for _ in range(2):  # as after a connection that was lost
            watching = asyncio.create_task(link._watch_certificate())
            await asyncio.sleep(0.1)
            watching.cancel()

    assert [(entry["event"], entry["days"]) for entry in logs] == [("certificate_ends", 10)]
    assert "refloat pki renew" in logs[0]["hint"]


def test_who_has_no_certificate_or_one_that_cannot_be_read_is_told_nothing_of_its_end(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")

    assert mqtt_login.days_left(MqttSettings(), 0.0) is None
    bad = MqttSettings(tls=True, cert_file=tmp_path / "bad.pem", key_file=tmp_path / "k")
    assert mqtt_login.days_left(bad, 0.0) is None


def test_what_is_left_is_counted_from_now(tmp_path: Path) -> None:
    left = mqtt_login.days_left(with_certificate(tmp_path, 300), datetime.now(UTC).timestamp())

    assert left is not None
    assert 299 < left < 301
