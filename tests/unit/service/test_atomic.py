# SPDX-License-Identifier: Apache-2.0
import errno
import os
import stat
from pathlib import Path

import pytest

from refloat_contract.errors import Transient
from refloat_service import atomic


def test_what_was_written_is_read_back_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"

    atomic.write(path, b"one")
    atomic.write(path, b"two")

    assert atomic.read(path) == b"two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["journal.json"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert atomic.read(tmp_path / "none") is None


def test_a_file_that_cannot_be_read_is_not_taken_for_absent(tmp_path: Path) -> None:
    with pytest.raises(Transient, match=f"cannot read {tmp_path}: Is a directory"):
        atomic.read(tmp_path)


def test_a_full_disk_is_transient_and_leaves_the_old_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.json"
    atomic.write(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)  # the standard library: no disk here can be filled

    with pytest.raises(Transient, match=rf"cannot write {path}: No space left on device"):
        atomic.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["journal.json"]


def test_a_missing_directory_is_transient(tmp_path: Path) -> None:
    with pytest.raises(Transient, match="No such file or directory"):
        atomic.write(tmp_path / "none" / "file", b"")


def test_the_rename_comes_after_the_data_and_before_the_directory_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    seen: list[tuple[bool, bool]] = []
    real = os.fsync

    def spy(handle: int) -> None:
        seen.append((stat.S_ISDIR(os.fstat(handle).st_mode), path.exists()))
        real(handle)

    monkeypatch.setattr(os, "fsync", spy)  # the standard library: the order of its calls is what is tested
    atomic.write(path, b"x")

    assert seen == [(False, False), (True, True)]
