"""Facts that stand as they were recorded, and what runs a check over them."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import pytest

from refloat_checks.facts import Facts, Threads
from refloat_checks.nhc.native import NhcOutcome, NhcRun
from refloat_checks.nhc.registry import find
from refloat_checks.probes import ProbePool
from refloat_checks.proc import Roots

T = TypeVar("T")
Ask = Callable[..., Awaitable[NhcOutcome]]


class RecordedFacts(Facts):
    """Gives what is recorded for a source, and reads the others."""

    def __init__(self, roots: Roots, pool: ProbePool, recorded: Mapping[str, Any]) -> None:
        super().__init__(roots, pool, Threads())
        self._recorded = recorded

    async def read(self, source: str, read: Callable[[], T]) -> T:
        if source in self._recorded:
            value: T = self._recorded[source]
            return value
        # Who they are asked about stands in their name.
        kind = source.partition(" ")[0]
        if kind in {"processes", "sockets"} and kind in self._recorded:
            wanted: T = self._recorded[kind]
            return wanted
        return await super().read(source, read)

    async def uid(self, user: str) -> int:
        recorded: int | None = self._recorded.get(f"uid {user}")
        return await super().uid(user) if recorded is None else recorded

    async def remember(self, what: tuple[str, ...], ask: Callable[[], Awaitable[T]]) -> T:
        key = " ".join(what)
        if key in self._recorded:
            value: T = self._recorded[key]
            return value
        return await super().remember(what, ask)


@pytest.fixture
def recorded_facts(roots: Roots, pool: ProbePool) -> Callable[[Mapping[str, Any]], Facts]:
    """Give facts that stand as they were recorded."""
    return lambda recorded: RecordedFacts(roots, pool, recorded)


@pytest.fixture
def ask(roots: Roots, pool: ProbePool) -> Ask:
    """Run a check: its name, its words, what is recorded, and the run's other fields."""

    async def run(check: str, *words: str, recorded: Mapping[str, Any] | None = None, **fields: Any) -> NhcOutcome:
        found = find(check)
        assert found is not None, check
        variables = fields.pop("variables", {})
        # This machine's own login.defs is nothing to go by.
        facts = RecordedFacts(roots, pool, {"login.defs": 99, **(recorded or {})})
        return await found.run(list(words), NhcRun(facts, variables, **fields))

    return run
