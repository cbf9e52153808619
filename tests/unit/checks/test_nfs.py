# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from typing import Any

import pytest

from refloat_checks.facts import Facts
from refloat_checks.nfs import NfsLimits, NfsMount, judge, look, parse
from refloat_contract.words import Status

STATS = """\
device proc mounted on /proc with fstype proc
device srv:/home mounted on /home\\040one with fstype nfs4 statvers=1.1
\topts:\trw,vers=4.2,rsize=1048576,proto=tcp
\tage:\t5000
\tcaps:\tcaps=0xfffbc0b7,wtmult=512
\tsec:\tflavor=1,pseudoflavor=1
\tRPC iostats version: 1.1  p/v: 100003/4 (nfs)
\txprt:\ttcp 0 0 2 0 11 1200 1190 0 1300 0 2 10 5
\txprt:\ttcp 0 0 2 0 11 100 100 0 1300 0 2 10 5
\tper-op statistics
\t        NULL: 1 1 0 44 24 0 0 0 0
\t     GETATTR: 999 1009 3 44 24 0 0 0 0
device srv:/old mounted on /old with fstype nfs statvers=1.1
\topts:\trw,vers=3,proto=udp
\txprt:\tudp 800 1 20 19 0 20 0
\tper-op statistics
\t        READ: 20 20 0 44 24 0 0 0
"""
HOME = NfsMount("srv:/home", "4.2", 1300, 1290, 1000, 1010, 3)


def test_the_counters_of_each_mount_are_read() -> None:
    assert parse(STATS) == {"/home one": HOME, "/old": NfsMount("srv:/old", "3", 20, 19, 20, 20, 0)}


def test_a_node_without_nfs_has_no_counters() -> None:
    assert parse("device proc mounted on /proc with fstype proc\n") == {}


@pytest.mark.parametrize(
    ("after", "limits", "status", "message"),
    [
        (HOME, {"version": "4.*", "max_timeouts": 3, "max_retransmitted_percent": 1}, Status.OK, "srv:/home answers"),
        (replace(HOME, sent=1310, received=1291), {}, Status.OK, "srv:/home answers"),
        (replace(HOME, sent=1302), {}, Status.FAILED, "srv:/home answered none of 2 requests within 2 s"),
        (HOME, {"version": "3"}, Status.FAILED, "/h is mounted with NFS 4.2 (should be 3)"),
        (HOME, {"max_timeouts": 2}, Status.FAILED, "3 requests to srv:/home timed out (limit 2)"),
        (
            HOME,
            {"max_retransmitted_percent": 0.5},
            Status.FAILED,
            "1% of requests to srv:/home had to be sent again (limit 0.5%)",
        ),
        (None, {}, Status.UNKNOWN, "no NFS is mounted on /h"),
    ],
)
def test_counters_are_judged(after: NfsMount | None, limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(HOME, after, NfsLimits(path="/h", **limits), "n")

    assert (finding.status, finding.message) == (status, message)


async def test_the_given_proc_is_read(facts: Facts) -> None:
    (facts.roots.proc / "self" / "mountstats").write_text(STATS)

    there = await look(facts, NfsLimits(path="/home one", watch_s=0), "n")
    missing = await look(facts, NfsLimits(path="/home", watch_s=0), "m")

    assert (there.status, there.measures) == (Status.OK, {"timeouts": 3, "retransmitted_percent": 1.0})
    assert missing.status is Status.UNKNOWN
