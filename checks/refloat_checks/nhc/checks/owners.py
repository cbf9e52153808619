# SPDX-License-Identifier: Apache-2.0
"""Whose processes are: numbers to names, and which of them fit."""

from __future__ import annotations

from refloat_checks import process_table
from refloat_checks.nhc.match import matches
from refloat_checks.process_titles import Title
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from refloat_checks.facts import Facts


@record
class Owned:
    """A process with its owner's name, and the tick at which it was started."""

    pid: int
    title: str
    user: str
    started_ticks: int


async def names(facts: Facts, uids: Iterable[int]) -> dict[int, str]:
    """Name these users."""
    return {uid: await facts.user_name(uid) for uid in sorted(set(uids))}


async def owner_named(facts: Facts, owner: str) -> str:
    """Give an owner's match string; a bare number stands for the user who has it."""
    return await facts.user_name(int(owner)) if owner.isdigit() else owner


async def owned(facts: Facts, titles: Sequence[Title], owner: str) -> tuple[Owned, ...]:
    """Say whose these processes are, and leave out those that do not fit the owner's match string."""
    identities = await process_table.identities(facts, tuple(title.pid for title in titles))
    users = await names(facts, (identity.uid for identity in identities.values()))
    found = []
    for title in titles:
        identity = identities.get(title.pid)
        if identity is not None and (not owner or matches(owner, users[identity.uid])):
            found.append(Owned(title.pid, title.title, users[identity.uid], identity.started_ticks))
    return tuple(found)
