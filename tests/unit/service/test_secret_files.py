# SPDX-License-Identifier: Apache-2.0
"""Secrets are read only from where nobody else can read them, and never told."""

import os
import stat
from pathlib import Path

import pytest

from refloat_contract.errors import Misconfigured
from refloat_service import secret_files

OURS, THEIRS = 500, 600


def a_file(mode: int, uid: int = 0, gid: int = 0, kind: int = stat.S_IFREG) -> os.stat_result:
    return os.stat_result((kind | mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (a_file(0o600), ""),
        (a_file(0o400, uid=OURS), ""),
        (a_file(0o640, gid=OURS), ""),  # root's, for the daemon's group
        (a_file(0o440, gid=0), ""),  # as systemd shows a credential
        (a_file(0o644), "everybody"),
        (a_file(0o602), "everybody"),
        (a_file(0o601), "everybody"),
        (a_file(0o640, gid=THEIRS), "group 600"),
        (a_file(0o620, gid=THEIRS), "group 600"),
        (a_file(0o600, uid=THEIRS), "uid 600"),
        (a_file(0o600, kind=stat.S_IFIFO), "regular"),
        (a_file(0o700, kind=stat.S_IFDIR), "regular"),
    ],
)
def test_a_secret_is_taken_only_from_a_file_that_nobody_else_can_read(found: os.stat_result, wrong: str) -> None:
    said = secret_files.fault(found, OURS, {OURS})

    assert wrong in said
    assert bool(said) == bool(wrong)


def test_the_secret_is_read_without_its_line_end(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(" hush \n")
    path.chmod(0o600)

    assert secret_files.read(path, "mqtt.password_file") == " hush "


def test_a_file_that_others_can_read_is_refused_with_its_key_its_mode_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("hush\n")
    path.chmod(0o644)

    with pytest.raises(Misconfigured) as refused:
        secret_files.read(path, "mqtt.password_file")

    assert str(refused.value) == (f"mqtt.password_file: {path} can be used by everybody (mode 0644): chmod 600 it")


def test_what_cannot_be_read_is_told_without_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(b"hush\xff")
    path.chmod(0o600)

    with pytest.raises(Misconfigured) as refused:
        secret_files.read(path, "k")

    assert "hush" not in f"{refused.value}{refused.value.__cause__}"
    assert refused.value.__suppress_context__


def test_a_fifo_does_not_hang_the_daemon(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "password", 0o600)

    with pytest.raises(Misconfigured, match="not a regular file"):
        secret_files.read(tmp_path / "password", "k")


def test_a_file_without_end_is_not_read_to_it(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(b"a" * 65537)
    path.chmod(0o600)

    with pytest.raises(Misconfigured, match="larger than any secret"):
        secret_files.read(path, "k")


def test_a_credential_of_systemd_is_found_where_systemd_put_it() -> None:
    env = {"CREDENTIALS_DIRECTORY": "/run/credentials/refloat-agent.service"}

    found = secret_files.locate(Path("$CREDENTIALS_DIRECTORY/mqtt.key"), "mqtt.key_file", env)

    assert found == Path("/run/credentials/refloat-agent.service/mqtt.key")
    assert secret_files.locate(Path("/etc/refloat/mqtt.key"), "mqtt.key_file", env) == Path("/etc/refloat/mqtt.key")


def test_a_credential_that_the_unit_does_not_give_says_what_the_unit_lacks() -> None:
    with pytest.raises(Misconfigured, match=r"put LoadCredential=mqtt\.key:/etc/refloat/mqtt\.key into the unit"):
        secret_files.locate(Path("$CREDENTIALS_DIRECTORY/mqtt.key"), "mqtt.key_file", {})
