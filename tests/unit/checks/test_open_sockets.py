# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest
from pydantic import ValidationError

from refloat_checks.facts import Facts
from refloat_checks.open_sockets import SocketLimits, judge, look
from refloat_contract.words import Status

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7001 1 0000000000000000
   1: 0100007F:0019 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 7002 1 0000000000000000
"""


@pytest.mark.parametrize(
    ("count", "limits", "status", "message"),
    [
        (1, {}, Status.OK, "1 sockets of local *:22, state LISTEN"),
        (0, {}, Status.FAILED, "there is no socket of local *:22, state LISTEN"),
        (1, {"min_count": 2}, Status.FAILED, "there is no socket of local *:22, state LISTEN (1 of at least 2)"),
        (0, {"min_count": 0, "max_count": 0}, Status.OK, "0 sockets of local *:22, state LISTEN"),
        (3, {"max_count": 2}, Status.FAILED, "3 sockets of local *:22, state LISTEN (at most 2)"),
    ],
)
def test_sockets_are_counted(count: int, limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(count, SocketLimits(local="*:22", state="LISTEN", **limits), "s")

    assert (finding.status, finding.message) == (status, message)


@pytest.mark.parametrize("limits", [{}, {"local": "x", "max_count": 0}, {"local": "/(/"}])
def test_limits_that_mean_nothing_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SocketLimits(**limits)


@pytest.mark.parametrize(
    ("limits", "count"),
    [
        ({"protocol": "tcp"}, 2),
        ({"protocol": "tcp6"}, 0),
        ({"local": "*:22", "state": "LISTEN", "program": "/usr/sbin/sshd*"}, 0),
        ({"local": "*:22", "program": "sshd*"}, 1),
        ({"remote": "127.0.0.1:*", "protocol": "tcp"}, 1),
        ({"user": "root", "protocol": "tcp"}, 1),
        ({"socket_type": "STREAM"}, 0),
    ],
)
async def test_the_given_tables_are_looked_at(facts: Facts, limits: dict[str, Any], count: int) -> None:
    (facts.roots.proc / "net").mkdir()
    (facts.roots.proc / "net" / "tcp").write_text(TCP)
    (facts.roots.proc / "900" / "fd").mkdir(parents=True)
    (facts.roots.proc / "900" / "cmdline").write_bytes(b"sshd: /usr/sbin/sshd -D [listener]\0")
    (facts.roots.proc / "900" / "fd" / "3").symlink_to("socket:[7001]")

    finding = await look(facts, SocketLimits(min_count=0, **limits), "s")

    assert finding.measures == {"sockets": count}
