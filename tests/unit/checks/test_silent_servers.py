# SPDX-License-Identifier: Apache-2.0
"""A mount whose server the kernel calls silent is left alone, until it is heard of again."""

from pathlib import Path

import pytest

from refloat_checks.kernel_faults import NOTHING, fold
from refloat_checks.kernel_follower import Follower, by_needle
from refloat_checks.probed import Unanswered
from refloat_checks.probes import ProbePool
from refloat_checks.proc import Mount
from refloat_checks.silent_servers import (
    NEVER,
    RETRY_S,
    RULES,
    Silence,
    SilentServers,
    Tries,
    may_probe,
    server_of,
    silent,
)

AWAY = "nfs: server nfs1 not responding, still trying"
BACK = "nfs: server nfs1 OK"
LOST = (
    "Lustre: scratch-MDT0000-mdc-ffff9a1b2c3d4000: Connection to scratch-MDT0000 (at 10.0.0.1@o2ib) was lost; in "
    "progress operations using this service will wait for recovery to complete"
)
RESTORED = "Lustre: scratch-MDT0000-mdc-ffff9a1b2c3d4000: Connection restored to 10.0.0.1@o2ib (at 10.0.0.1@o2ib)"
SILENT = Silence("nfs1", 100.0, 120.0)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], []),
        ([AWAY], ["nfs1"]),
        ([AWAY, AWAY, BACK], []),
        (["nfs: server nfs1 not responding, timed out"], []),
        (["a.out[7]: nfs: server nfs1 not responding, still trying"], []),
        ([LOST], ["scratch"]),
        ([LOST, RESTORED], []),
        ([LOST.replace("MDT0000-mdc", "OST0003-osc").replace("-MDT0000 ", "-OST0003 ")], []),
        ([AWAY, LOST, AWAY.replace("nfs1", "nfs2"), BACK], ["scratch", "nfs2"]),
    ],
)
def test_which_servers_the_kernel_calls_silent(lines: list[str], found: list[str]) -> None:
    faults = fold(NOTHING, [(line, 10.0, RULES) for line in lines])

    assert list(silent(faults, {})) == found


def test_a_server_has_been_silent_since_it_was_first_called_so() -> None:
    first = silent(fold(NOTHING, [(AWAY, 10.0, RULES)]), {})
    again = silent(fold(NOTHING, [(AWAY, 10.0, RULES), (AWAY, 70.0, RULES)]), first)

    assert again == {"nfs1": Silence("nfs1", since_s=10.0, line_s=70.0)}


@pytest.mark.parametrize(
    ("silence", "tries", "now_s", "may"),
    [
        (None, NEVER, 130.0, True),
        (SILENT, NEVER, 130.0, False),
        (SILENT, NEVER, 100.0 + RETRY_S, True),
        (SILENT, Tries(probed_s=200.0), 199.0 + RETRY_S, False),
        (SILENT, Tries(probed_s=200.0), 200.0 + RETRY_S, True),
        (SILENT, Tries(200.0, answered_s=119.0), 201.0, False),
        (SILENT, Tries(200.0, answered_s=120.0), 201.0, True),
    ],
)
def test_when_a_mount_of_a_silent_server_is_probed(
    silence: Silence | None, tries: Tries, now_s: float, *, may: bool
) -> None:
    assert may_probe(silence, tries, now_s) == may


@pytest.mark.parametrize(
    ("fstype", "source", "server"),
    [
        ("nfs4", "nfs1:/export/home", "nfs1"),
        ("nfs", "[fd00::1]:/export", "fd00::1"),
        ("lustre", "10.0.0.1@o2ib:10.0.0.2@o2ib:/scratch", "scratch"),
        ("lustre", "10.0.0.1@tcp:/scratch/projects", "scratch"),
        ("tmpfs", "tmpfs", ""),
        ("fuse.sshfs", "host:/dir", ""),
    ],
)
def test_the_server_of_a_mount(fstype: str, source: str, server: str) -> None:
    assert server_of(Mount(point="/x", source=source, fstype=fstype, options=frozenset())) == server


async def test_no_probe_is_started_while_the_server_is_silent_and_one_now_and_then(tmp_path: Path) -> None:
    now_s = 1000.0
    log = Follower(tmp_path / "kmsg", by_needle(RULES))
    home = Mount(point=str(tmp_path), source="nfs1:/export", fstype="nfs4", options=frozenset())
    pool = ProbePool(servers=SilentServers(lambda: (home,), log, lambda: now_s))

    await pool.statvfs(str(tmp_path))
    log.faults = fold(log.faults, [(AWAY, 1000.0, RULES)])
    now_s = 1090.0
    with pytest.raises(Unanswered, match=r"was not probed: the kernel says that server nfs1 .* for 90 s") as refused:
        await pool.statvfs(str(tmp_path))
    await pool.statvfs("/")
    now_s = 1000.0 + RETRY_S
    await pool.statvfs(str(tmp_path))
    await pool.statvfs(str(tmp_path))
    log.faults = fold(log.faults, [(AWAY, now_s + 1, RULES)])
    with pytest.raises(Unanswered):
        await pool.statvfs(str(tmp_path))
    log.faults = fold(log.faults, [(BACK, now_s + 2, RULES)])
    await pool.statvfs(str(tmp_path))
    await pool.aclose()

    assert refused.value.for_s == 90.0
    assert pool.state().abandoned_ever == 0
