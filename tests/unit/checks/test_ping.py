# SPDX-License-Identifier: Apache-2.0
import pytest
from pydantic import ValidationError

from refloat_checks.facts import Facts
from refloat_checks.nhc.checks import net_ping
from refloat_checks.nhc.checks.launching import Ended
from refloat_checks.ping import PingLimits, look
from refloat_checks.pings import NotAllowed, Ping
from refloat_contract.errors import Refused
from refloat_contract.words import Status


def test_what_is_asked_is_the_same_for_our_socket_and_for_the_program() -> None:
    limits = PingLimits(hosts=("a", "b"), count=3, spacing_s=0.5, timeout_s=2.4, size_bytes=100, ttl=4, source="ib0")

    wanted = limits.wanted

    assert wanted.ping == Ping(3, 0.5, 100, 4, 2.4, "ib0")
    assert " ".join(wanted.options) == "-c 3 -i 0.5 -s 100 -t 4 -w 2 -I ib0"


def test_a_check_of_nobody_is_refused() -> None:
    with pytest.raises(ValidationError):
        PingLimits(hosts=())


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> list[Ended]:
    """A kernel that gives us no ICMP socket, and what ping(8) answers for one host after the other."""
    answers: list[Ended] = []

    async def refuse(*_: object) -> bool:
        raise NotAllowed("no")

    async def launch(*_: object) -> Ended:
        return answers.pop(0)

    # Which hosts answer is the network's affair, and whether we may ask is the kernel's.
    monkeypatch.setattr("refloat_checks.pings.ping", refuse)
    monkeypatch.setattr(net_ping, "launch", launch)
    return answers


@pytest.mark.parametrize(
    ("codes", "status", "message"),
    [
        ((0, 0), Status.OK, "127.0.0.1, ::1 answered"),
        ((0, 1), Status.FAILED, "no answer from ::1"),
        ((1, 2), Status.FAILED, "no answer from 127.0.0.1, ::1"),
    ],
)
async def test_all_hosts_must_answer(
    facts: Facts, program: list[Ended], codes: tuple[int, ...], status: Status, message: str
) -> None:
    program += [Ended(code, "") for code in codes]

    finding = await look(facts, PingLimits(hosts=("127.0.0.1", "::1")), "p")

    assert (finding.status, finding.message) == (status, message)


async def test_where_nobody_can_ask_nothing_is_known(facts: Facts, program: list[Ended]) -> None:
    program.append(Ended(127, ""))

    with pytest.raises(Refused, match="no ICMP socket"):
        await look(facts, PingLimits(hosts=("127.0.0.1",)), "p")
