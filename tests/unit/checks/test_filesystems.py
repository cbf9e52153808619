# SPDX-License-Identifier: Apache-2.0
import errno
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from refloat_checks.facts import Facts
from refloat_checks.filesystems import FilesystemLimits, judge, judge_error, look
from refloat_checks.probed import Usage
from refloat_contract.words import Status

GB = 1 << 20


@pytest.mark.parametrize(
    ("free_kb", "limits", "status"),
    [
        (10 * GB, {}, Status.OK),
        (10 * GB, {"min_free": "10G"}, Status.OK),
        (10 * GB - 1, {"min_free": "10G"}, Status.FAILED),
        (10 * GB, {"min_free": "10%"}, Status.OK),
        (10 * GB - 1, {"min_free": "10%"}, Status.FAILED),
        (0, {"min_free": "1"}, Status.FAILED),
        (0, {"min_free_inodes": "50%"}, Status.OK),
        (0, {"min_free_inodes": "501"}, Status.FAILED),
        (0, {"min_free_inodes": "51%"}, Status.FAILED),
        (0, {"min_size": "100G", "max_size": "100G", "min_inodes": "1k", "max_inodes": "1k"}, Status.OK),
        (0, {"min_size": "101G"}, Status.FAILED),
        (0, {"max_size": "99G"}, Status.FAILED),
        (0, {"min_inodes": "1001"}, Status.FAILED),
        (0, {"max_inodes": "999"}, Status.FAILED),
        (10 * GB, {"used_below": "91%"}, Status.OK),
        (10 * GB, {"used_below": "90%"}, Status.FAILED),
        (10 * GB - 1, {"used_below": "91%"}, Status.FAILED),
        (10 * GB, {"used_below": "90G"}, Status.FAILED),
        (10 * GB, {"used_inodes_below": "51%"}, Status.OK),
        (10 * GB, {"used_inodes_below": "500"}, Status.FAILED),
    ],
)
def test_free_space_is_judged(free_kb: int, limits: dict[str, Any], status: Status) -> None:
    usage = Usage(size_kb=100 * GB, free_kb=free_kb, used_kb=100 * GB - free_kb, inodes=1000, inodes_free=500)

    assert judge(usage, FilesystemLimits(path="/x", **limits), "f").status is status


def test_the_message_says_what_was_measured_against_what() -> None:
    usage = Usage(size_kb=100 * GB, free_kb=2 * GB, used_kb=98 * GB, inodes=0, inodes_free=0)

    finding = judge(usage, FilesystemLimits(path="/x", min_free="3%", min_free_inodes="99%"), "f")

    assert finding.message == "/x has only 2 GB of 100 GB (2%) free (limit 3%)"
    assert finding.measures["free_kb"] == 2 * GB


def test_space_that_is_reserved_for_the_administrator_is_nobodys() -> None:
    usage = Usage(size_kb=100 * GB, free_kb=5 * GB, used_kb=45 * GB, inodes=0, inodes_free=0)

    finding = judge(usage, FilesystemLimits(path="/x", min_free="10%", used_below="91%"), "f")

    assert finding.status is Status.OK


@pytest.mark.parametrize("key", ["min_size", "max_size", "min_inodes", "max_inodes"])
def test_a_share_of_nothing_is_refused(key: str) -> None:
    with pytest.raises(ValidationError, match="cannot be a percentage"):
        FilesystemLimits.model_validate({"path": "/x", key: "5%"})


def test_an_empty_pseudo_filesystem_has_no_percentage() -> None:
    usage = Usage(size_kb=0, free_kb=0, used_kb=0, inodes=0, inodes_free=0)

    assert judge(usage, FilesystemLimits(path="/x"), "f").status is Status.OK


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.ESTALE, Status.FAILED),
        (errno.ENOTCONN, Status.FAILED),
        (errno.EIO, Status.FAILED),
        (errno.ENOENT, Status.FAILED),
        (errno.EACCES, Status.UNKNOWN),
        (errno.EMFILE, Status.UNKNOWN),
    ],
)
def test_only_what_the_kernel_calls_broken_has_failed(number: int, status: Status) -> None:
    assert judge_error(OSError(number, "x"), FilesystemLimits(path="/x"), "f").status is status


async def test_a_path_on_which_nothing_is_mounted_is_not_measured(facts: Facts) -> None:
    finding = await look(facts, FilesystemLimits(path="/scratch"), "f")

    assert finding.status is Status.UNKNOWN
    assert "nothing is mounted on /scratch" in finding.message


async def test_a_directory_is_measured_if_asked_for(facts: Facts, tmp_path: Path) -> None:
    finding = await look(facts, FilesystemLimits(path=str(tmp_path), min_free="1", mounted=False), "f")

    assert finding.status is Status.OK
    assert finding.measures["size_kb"] > 0


async def test_a_directory_that_is_gone_has_failed(facts: Facts, tmp_path: Path) -> None:
    finding = await look(facts, FilesystemLimits(path=str(tmp_path / "no"), mounted=False), "f")

    assert finding.status is Status.FAILED
