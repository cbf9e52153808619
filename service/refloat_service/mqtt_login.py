# SPDX-License-Identifier: Apache-2.0
"""How a client proves who it is to the broker, and what it means when one of both does not believe the other."""

import socket
import ssl
from pathlib import Path
from typing import Any, Final, NoReturn

from refloat_contract.errors import Misconfigured
from refloat_service import secret_files
from refloat_service.mqtt_settings import MqttSettings


def password(settings: MqttSettings) -> str | None:
    """The password; None where there is none.

    Raises:
        Misconfigured: its file cannot be read, or can be read by others.
    """
    if settings.password_file is None:
        return None
    key = "mqtt.password_file"
    return secret_files.read(secret_files.locate(settings.password_file, key), key)


def tls(settings: MqttSettings) -> ssl.SSLContext | None:
    """What the connection is encrypted with; None where it is not.

    Raises:
        Misconfigured: a file cannot be used, or the key can be read by others.
    """
    if not settings.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:  # an SSLError is one
        raise Misconfigured(f"mqtt.ca_file: cannot use {settings.ca_file}: {error}") from error
    if settings.cert_file is not None and settings.key_file is not None:
        _show(context, settings.cert_file, settings.key_file)
    return context


def _show(context: ssl.SSLContext, cert_file: Path, key_file: Path) -> None:
    cert, key = secret_files.locate(cert_file, "mqtt.cert_file"), secret_files.locate(key_file, "mqtt.key_file")
    secret_files.check(key, "mqtt.key_file")
    try:
        context.load_cert_chain(cert, key, password=_no_passphrase)
    except OSError as error:
        raise Misconfigured(f"mqtt.cert_file, mqtt.key_file: cannot use {cert} and {key}: {error}") from error


def days_left(settings: MqttSettings, now: float) -> float | None:
    """How long our certificate still counts; None without one, and where this Python does not tell. Blocks."""
    try:
        return (ssl.cert_time_to_seconds(_certificate(settings)["notAfter"]) - now) / _DAY_S
    except (KeyError, ValueError):
        return None


def common_name(settings: MqttSettings) -> str:
    """The name in our certificate, which the broker knows us by; empty without one that can be read. Blocks."""
    subject = dict(pair for part in _certificate(settings).get("subject", ()) for pair in part)
    return str(subject.get("commonName", ""))


def _certificate(settings: MqttSettings) -> dict[str, Any]:
    """What is in our certificate; empty without one, and where this Python does not tell."""
    if settings.cert_file is None:
        return {}
    try:
        # Python reads certificates from files nowhere else, and a library for it would cost the agent its memory.
        decode = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]  # noqa: SLF001
        read: dict[str, Any] = decode(secret_files.locate(settings.cert_file, "mqtt.cert_file"))
    except (AttributeError, OSError, ValueError):
        return {}
    return read


def _no_passphrase() -> NoReturn:
    # Without this OpenSSL would ask the terminal, and wait for it.
    raise Misconfigured("mqtt.key_file: the key has a passphrase, and a daemon has nobody to ask: store it without one")


_DAY_S: Final = 86400.0
_OURS: Final = (
    ("certificate expired", "it has expired, or this clock and the broker's differ"),
    ("certificate revoked", "it was revoked"),
    ("unknown ca", "the broker trusts another authority than the one that issued it"),
    ("certificate required", "none was shown, and the broker wants one"),
    ("bad certificate", "it is not valid yet, or is damaged"),
    ("unsupported certificate", "it is not one for clients"),
)
"""What the broker's alerts (RFC 8446, 6.2) say of our certificate."""

RENEW: Final = "make a new one (refloat pki renew NAME), and install it: it is read anew at the next try"

_HINTS: Final = (
    (("none was shown",), "set mqtt.cert_file and mqtt.key_file"),
    (("another authority",), "issue it anew from the authority in the broker's cafile (refloat pki issue NAME)"),
    (("refuses our certificate",), RENEW),
    (("hostname mismatch", "ip address mismatch"), "let mqtt.host be one of the names in the broker's certificate"),
    (("self-signed", "unable to get"), "let mqtt.ca_file be the authority that issued the broker's certificate"),
    (("certificate has expired", "not yet valid"), "renew the broker's certificate, and look at both clocks"),
    (("wrong version", "record layer"), "the broker speaks plain text at this port: look at mqtt.port and mqtt.tls"),
    (("refused]", "errno 111", "errno 113", "unreachable", "timed out"), "see that the broker runs and is reachable"),
    (("errno -2", "errno -3", "errno -5", "name or service", "name resolution"), "look at mqtt.host"),
    (("authori", "user name or password", "username or password"), "look at mqtt.username and mqtt.password_file"),
    (("certificate", "ssl", "tls"), "look at mqtt.tls, mqtt.ca_file and the broker's certificate"),
    (("hung up",), "look at mqtt.tls and mqtt.port: a broker that wants TLS hangs up on plain text"),
    (("identifier",), "let the broker accept the client id"),
    (("version",), "look at mqtt.protocol"),
)


def last_words(settings: MqttSettings, context: ssl.SSLContext, deadline_s: float) -> str:
    """What a broker that hung up says of our certificate, if anything. Blocks: call it in a thread.

    It hangs up on a client that has begun to speak, and the alert is lost then, as often as not: a client that only
    listens hears it.
    """
    try:
        with (
            socket.create_connection((settings.host, settings.port), deadline_s) as plain,
            context.wrap_socket(plain, server_hostname=settings.host) as secure,
        ):
            secure.recv(1)
    except TimeoutError:
        return ""
    except OSError as error:
        return str(error)
    return ""


def is_alert(said: str) -> bool:
    """Whether what a socket says is a broker's word on our certificate. Pure."""
    return any(mark in said.lower() for mark, _ in _OURS)


def refusal(alert: str, settings: MqttSettings) -> str:
    """What ended a connection before the broker had answered, in words, from what the socket's error says. Pure."""
    for mark, why in _OURS:
        if mark in alert.lower():
            return f"the broker refuses our certificate {settings.cert_file or '(none)'}: {why} ({alert})"
    return f"the broker hung up before it had answered ({alert or 'it did not say why'})"


def hint(said: str) -> str:
    """What to look at, for what ended a connection. Pure."""
    lowered = said.lower()
    for marks, advice in _HINTS:
        if any(mark in lowered for mark in marks):
            return advice
    return "the broker's log says more"
