# SPDX-License-Identifier: Apache-2.0
"""Who gets the record: settings become a writer to InfluxDB and targets of notifications."""

from collections.abc import Iterable
from pathlib import Path

from refloat_contract.errors import Misconfigured
from refloat_coordinator.config import InfluxSettings, NotifySettings
from refloat_coordinator.record.influx import InfluxV1, InfluxV2, InfluxV3, Writer
from refloat_coordinator.record.notifications import Command, Target, Webhook
from refloat_service import secret_files


def make_writer(settings: InfluxSettings) -> Writer | None:
    """The writer that the settings ask for.

    Raises:
        Misconfigured: a file with a password or token cannot be read.
    """
    match settings.kind:
        case "v1":
            return InfluxV1(
                settings.url,
                db=settings.database,
                rp=settings.retention_policy,
                username=settings.username,
                password=_secret(settings.password_file, "influx.password_file"),
                deadline_s=settings.deadline_s,
            )
        case "v2":
            return InfluxV2(
                settings.url,
                token=_secret(settings.token_file, "influx.token_file"),
                org=settings.org,
                bucket=settings.bucket,
                deadline_s=settings.deadline_s,
            )
        case "v3":
            return InfluxV3(
                settings.url,
                db=settings.database,
                token=_secret(settings.token_file, "influx.token_file"),
                deadline_s=settings.deadline_s,
            )
        case "none":
            return None


def make_targets(settings: Iterable[NotifySettings]) -> dict[str, Target]:
    """The targets by their names.

    Raises:
        Misconfigured: a file of headers cannot be read.
    """
    targets: dict[str, Target] = {}
    for one in settings:
        if one.command:
            targets[one.name] = Command(one.command, one.deadline_s)
        else:
            targets[one.name] = Webhook(one.url, _headers(one.headers_file), one.deadline_s)
    return targets


def _headers(path: Path | None) -> dict[str, str]:
    headers = {}
    for line in _secret(path, "notify.headers_file").splitlines():
        name, colon, value = line.partition(":")
        if not (colon and name.strip() and value.strip()):
            # Not the line itself: it may be a secret.
            raise Misconfigured(f"notify.headers_file: {path} has a line that is no header: write Name: value")
        headers[name.strip()] = value.strip()
    return headers


def _secret(path: Path | None, key: str) -> str:
    return "" if path is None else secret_files.read(secret_files.locate(path, key), key).strip()
