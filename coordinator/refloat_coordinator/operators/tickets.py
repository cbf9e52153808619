# SPDX-License-Identifier: Apache-2.0
"""Tickets: each lets one request of one operator act once, however often it arrives; pure.

Whoever wants something changed over MQTT is first given a ticket, and asks again with it. A ticket lives in the memory
of the coordinator that gave it, for a minute by its own clock, and is used up before anything is done. So a repeat, of
the network, of the broker or of the command line, cannot act twice:

- while the first is being done or its answer is remembered, a repeat gets that answer;
- later, or at a coordinator that was started anew or took over, its ticket is one that nobody knows, and it is refused;
- what was said long ago and arrives late is refused for the same reason, and no two hosts' clocks are compared.

To forget a ticket is therefore always safe, and memory is bounded by forgetting.
"""

from dataclasses import dataclass, replace
from typing import Final

from refloat_contract.errors import Transient

LIFE_S: Final = 60.0
"""How long a ticket waits to be used, and an answer to be asked for again."""
MOST: Final = 64
MOST_OF_ONE: Final = 8


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket; ``answer`` is empty until there is one."""

    operator: str
    request: str
    until: float
    is_used: bool = False
    answer: str = ""


class Tickets:
    """Those that were given. ``now`` is any clock that does not fall."""

    def __init__(self) -> None:
        self._tickets: dict[str, Ticket] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    def give(self, name: str, operator: str, request: str, now: float) -> str:
        """Give out the ticket ``name``, which nobody can guess, for one request of one operator, or the one it has."""
        self._forget(now)
        theirs = {key: ticket for key, ticket in self._tickets.items() if ticket.operator == operator}
        if own := [key for key, ticket in theirs.items() if ticket.request == request]:
            return own[0]
        for key in list(theirs)[: max(0, len(theirs) - MOST_OF_ONE + 1)]:
            del self._tickets[key]
        while len(self._tickets) >= MOST:
            del self._tickets[next(iter(self._tickets))]
        self._tickets[name] = Ticket(operator, request, now + LIFE_S)
        return name

    def use(self, name: str, operator: str, request: str, now: float) -> str | None:
        """Use a ticket up: None when its request may be carried out now, by whoever asked; else the answer to it.

        Raises:
            Transient: nobody knows the ticket for this request, or the request is being carried out.
        """
        self._forget(now)
        ticket = self._tickets.get(name)
        if ticket is None or (ticket.operator, ticket.request) != (operator, request):
            raise Transient(
                "this request is too old, or was meant for a coordinator that has ended since: whether it was carried"
                " out then is in the record (refloat wave list, refloat events), and nothing was done now"
            )
        if not ticket.is_used:
            # Its minute begins anew with its answer, which may be long in coming.
            self._tickets[name] = replace(ticket, is_used=True, until=float("inf"))
            return None
        if not ticket.answer:
            raise Transient("this request is being carried out")
        return ticket.answer

    def keep(self, name: str, answer: str, now: float) -> None:
        """What was answered to the request of a ticket that was used."""
        if name in self._tickets:
            self._tickets[name] = replace(self._tickets[name], answer=answer, until=now + LIFE_S)

    def _forget(self, now: float) -> None:
        self._tickets = {name: ticket for name, ticket in self._tickets.items() if now < ticket.until}
