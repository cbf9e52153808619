"""What is free, used and there at all, and where NHC would have passed in silence."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from refloat_checks.filling import inodes, space
from refloat_checks.nhc.native import NhcOutcome
from refloat_checks.probed import Unanswered, Usage
from refloat_checks.proc import Mount
from refloat_contract.words import Status

Ask = Callable[..., Awaitable[NhcOutcome]]
ROOT = Mount("/", "/dev/sda1", "ext4", frozenset({"rw"}))
FULL: dict[str, Any] = {"the mount table": (ROOT,), "usage /": Usage(1000, 10, 980, 100, 5)}


def test_the_share_is_rounded_up_as_df_rounds() -> None:
    usage = Usage(33027952, 19747624, 11602608, 2097152, 1727102)

    assert (space(usage).used_percent, inodes(usage).used_percent) == (38, 18)


async def test_a_mistyped_mount_point_is_unknown(ask: Ask) -> None:
    outcome = await ask("check_fs_free", "/scrach", "3%", recorded=FULL)

    assert (outcome.status, outcome.message) == (Status.UNKNOWN, "check_fs_free:  Nothing is mounted on /scrach")


async def test_a_mistyped_mount_point_passes_in_strict_mode(ask: Ask) -> None:
    outcome = await ask("check_fs_free", "/scrach", "3%", recorded=FULL, strict=True)

    assert outcome.rc == 0


@pytest.mark.parametrize("text", ["1GiB", "99.9%", "1,5G", "08"])
async def test_what_nhc_cannot_compare_is_a_configuration_error(ask: Ask, text: str) -> None:
    outcome = await ask("check_fs_free", "/", text, recorded=FULL)

    assert (outcome.status, text.rstrip("%") in outcome.message) == (Status.UNKNOWN, True)


@pytest.mark.parametrize(("text", "rc"), [("1GiB", 0), ("99.9%", 0), ("1.5G", 1)])
async def test_in_strict_mode_it_passes_or_the_shell_gives_up(ask: Ask, text: str, rc: int) -> None:
    outcome = await ask("check_fs_free", "/", text, recorded=FULL, strict=True)

    assert (outcome.rc, outcome.message) == (rc, "")


async def test_a_filesystem_without_size_is_unknown(ask: Ask) -> None:
    recorded = {**FULL, "usage /": Usage(0, 0, 0, 0, 0)}

    assert (await ask("check_fs_size", "/", "1G", recorded=recorded)).status is Status.UNKNOWN
    assert (await ask("check_fs_ifree", "/", "1k", recorded=recorded)).status is Status.OK
    assert (await ask("check_fs_size", "/", "1G", recorded=recorded, strict=True)).syslog == (
        "WARNING:  Possible bogus check:  check_fs_size on pseudofilesystem /",
    )


async def test_a_hung_mount_blames_only_itself(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(path: str, *, key: str) -> Usage:
        raise Unanswered(f"{path} did not answer within 5 s")

    monkeypatch.setattr("refloat_checks.probes.ProbePool.statvfs", lambda pool, path, key: hang(path, key=key))
    table = (ROOT, Mount("/scratch", "nfs:/scratch", "nfs", frozenset({"rw"})))

    hung = await ask("check_fs_free", "/scratch", "3%", recorded={**FULL, "the mount table": table})
    healthy = await ask("check_fs_free", "/", "1kB", recorded={**FULL, "the mount table": table})

    assert (hung.status, "/scratch did not answer" in hung.message) == (Status.UNKNOWN, True)
    assert healthy.status is Status.OK


async def test_a_stale_filesystem_fails(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stale(path: str, *, key: str) -> Usage:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr("refloat_checks.probes.ProbePool.statvfs", lambda pool, path, key: stale(path, key=key))

    outcome = await ask("check_fs_used", "/", "90%", recorded={"the mount table": (ROOT,)})

    assert (outcome.status, outcome.message) == (Status.FAILED, "check_fs_used:  / is broken: Stale file handle")
