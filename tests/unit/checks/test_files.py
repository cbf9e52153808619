# SPDX-License-Identifier: Apache-2.0
import os
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from refloat_checks.facts import Facts
from refloat_checks.file_faults import Seen
from refloat_checks.files import FileFacts, FileLimits, judge, look
from refloat_checks.lines import compare
from refloat_checks.nhc.checks.file_contents import CAP_BYTES
from refloat_checks.probed import Attributes
from refloat_contract.words import Status

NOW = 1100.5
STAT = Seen(
    Attributes(
        type="char",
        mode=0o644,
        blocks=8,
        device=64768,
        special=os.makedev(195, 255),
        uid=0,
        gid=0,
        size=2048,
        atime=1050.0,
        mtime=1000.0,
        ctime=1040.0,
    ),
    group="root",
    access="rw",
)


@pytest.mark.parametrize(
    ("seen", "limits", "message"),
    [
        (FileFacts(STAT), {}, None),
        (FileFacts(None), {}, "/f does not exist"),
        (FileFacts(None), {"exists": False}, None),
        (FileFacts(STAT), {"exists": False}, "/f exists, and should not"),
        (FileFacts(STAT), {"is_a": "char", "mode": "0644", "owner": "root", "min_size": "2k", "max_age_s": 100}, None),
        (FileFacts(STAT), {"is_a": "directory"}, "/f is a char (should be a directory)"),
        (FileFacts(STAT), {"mode": "600"}, "/f has mode 0644 (should be 0600)"),
        (FileFacts(STAT), {"min_size": "3k"}, "/f has 2 kB (limit 3k)"),
        (FileFacts(STAT), {"max_age_s": 99}, "/f was last written 100 s ago (limit 99 s)"),
        (FileFacts(STAT, "Stale file handle"), {"readable": True}, "/f cannot be read: Stale file handle"),
        (FileFacts(STAT, "", "No space left"), {"writable": True}, "/f cannot be written: No space left"),
        (FileFacts(STAT), {"mode_has": "0640", "group": "root", "device": 64768, "major": 195, "minor": 255}, None),
        (FileFacts(STAT), {"mode_has": "4000"}, "/f has mode 0644 (should have 4000)"),
        (FileFacts(STAT), {"group": "munge"}, "/f belongs to group root (should be munge)"),
        (FileFacts(STAT), {"group": "99"}, "/f belongs to group 0 (should be 99)"),
        (FileFacts(STAT), {"major": 1}, "/f has major number 195 (should be 1)"),
        (FileFacts(STAT), {"min_age_s": 99, "changed_within_s": 60, "changed_before_s": 59}, None),
        (FileFacts(STAT), {"min_age_s": 100}, "/f was written 100 s ago (not within 100 s)"),
        (FileFacts(STAT), {"changed_within_s": 59}, "/f last changed 60 s ago (limit 59 s)"),
        (FileFacts(STAT), {"changed_before_s": 61}, "/f changed 60 s ago (not within 61 s)"),
        (FileFacts(STAT), {"unread": True}, "/f was read 50 s ago, after it was written"),
        (FileFacts(STAT), {"access": "rw"}, None),
        (FileFacts(STAT), {"access": "rx"}, "/f allows us rw (should be rx)"),
        (FileFacts(STAT, compared=compare("ab", ["a", "c"])), {"lines": ["a", "c"]}, "/f has no line like c"),
        (
            FileFacts(STAT, compared=compare("ab", ["a", "!b"])),
            {"lines": ["a", "!b"]},
            "/f has line 2, which is like b (should not)",
        ),
        (FileFacts(STAT, "x"), {"mode": "600"}, "/f has mode 0644 (should be 0600), and cannot be read: x"),
    ],
)
def test_a_file_is_judged(seen: FileFacts, limits: dict[str, Any], message: str | None) -> None:
    finding = judge(seen, FileLimits(path="/f", **limits), 0, "f", NOW)

    assert finding.status is (Status.OK if message is None else Status.FAILED)
    assert message is None or finding.message == message


def test_the_wrong_owner_is_named() -> None:
    finding = judge(FileFacts(STAT), FileLimits(path="/f", owner="munge"), 998, "f", NOW)

    assert finding.message == "/f belongs to uid 0 (should be munge)"


@pytest.mark.parametrize(
    "limits",
    [
        {"mode": 420},
        {"mode": "0999"},
        {"mode": ""},
        {"path": "relative"},
        {"exists": False, "mode": "0644"},
        {"exists": False, "readable": True},
        {"exists": False, "lines": ["x"]},
        {"access": "wr"},
        {"lines": ["/(/"]},
        {"min_size": "3%"},
        {"is_a": "door"},
    ],
)
def test_limits_that_mean_nothing_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FileLimits(**{"path": "/f", **limits})


@pytest.mark.parametrize(
    ("name", "limits", "status"),
    [
        ("file", {"is_a": "file", "mode": "0640", "readable": True, "max_age_s": 60}, Status.OK),
        ("file", {"is_a": "file", "owner": str(os.geteuid())}, Status.OK),
        ("old", {"max_age_s": 60}, Status.FAILED),
        ("dir", {"is_a": "directory", "readable": True, "writable": True}, Status.OK),
        ("link", {"is_a": "symlink"}, Status.OK),
        ("link", {"is_a": "file"}, Status.OK),
        ("dangling", {"is_a": "symlink"}, Status.OK),
        ("dangling", {}, Status.FAILED),
        ("file", {"is_a": "symlink"}, Status.FAILED),
        ("fifo", {"is_a": "fifo"}, Status.OK),
        ("file/below", {}, Status.FAILED),
        ("file", {"writable": True}, Status.FAILED),
        ("no", {"exists": False}, Status.OK),
        ("link", {"follow": False, "is_a": "file"}, Status.FAILED),
        ("link", {"follow": False, "mode": "0777"}, Status.OK),
        ("file", {"lines": ["x", "!y"], "access": "r"}, Status.OK),
        ("file", {"lines": ["!x"]}, Status.FAILED),
        ("dir", {"lines": ["!x"]}, Status.UNKNOWN),
        ("file", {"group": str(os.getegid()), "min_age_s": 60}, Status.FAILED),
    ],
)
async def test_a_real_file_is_looked_at(
    facts: Facts, tmp_path: Path, name: str, limits: dict[str, Any], status: Status
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "old").touch()
    os.utime(tmp_path / "old", (time.time() - 3600, time.time() - 3600))
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")

    finding = await look(facts, FileLimits(path=str(tmp_path / name), **limits), "f")

    assert finding.status is status, finding.message
    assert not list((tmp_path / "dir").iterdir())


async def test_a_path_that_may_not_be_looked_at_is_unknown(facts: Facts, tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to("loop")

    assert (await look(facts, FileLimits(path=str(loop)), "f")).status is Status.UNKNOWN


async def test_an_owner_that_nobody_knows_makes_it_unknown(facts: Facts, tmp_path: Path) -> None:
    finding = await look(facts, FileLimits(path=str(tmp_path), owner="no-such-user-here"), "f")

    assert finding.status is Status.UNKNOWN


async def test_a_large_file_is_unknown_and_not_half_read(facts: Facts, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (CAP_BYTES + 1))

    finding = await look(facts, FileLimits(path=str(tmp_path / "large"), lines=("!y",)), "f")

    assert finding.status is Status.UNKNOWN
