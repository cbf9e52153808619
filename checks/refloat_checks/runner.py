# SPDX-License-Identifier: Apache-2.0
"""The one runner of checks: deadline, concurrency, output cap, duration, and UNKNOWN for all that goes wrong."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Final

import structlog

from refloat_checks.api import Finding, Result, When, failed, unknown
from refloat_checks.facts import Facts
from refloat_checks.probed import Unanswered
from refloat_checks.probes import ASKED_UNTIL
from refloat_checks.registry import CheckSpec, Found, Look, Together, look_of
from refloat_contract.errors import RefloatError

MESSAGE_CAP: Final = 400
CONCURRENCY: Final = 16
PATIENCE_S: Final = 0.5
log = structlog.get_logger()


def boottime_s() -> float:
    """Seconds since this boot, suspended time included: never compared with another machine's, nor another boot's."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Runner:
    """Looks at checks, each in its own task or together with others, and says when they are due.

    A check that hangs, raises or babbles finds UNKNOWN and costs the others nothing: `on_result` gets each result when
    it is there.
    """

    def __init__(
        self,
        specs: Iterable[CheckSpec],
        facts_factory: Callable[[], Facts],
        clock: Callable[[], float] = boottime_s,
        *,
        concurrency: int = CONCURRENCY,
        find_look: Callable[[CheckSpec], Look | Together] = look_of,
        offset_s: float = 0.0,
    ) -> None:
        self._offset_s = offset_s
        self._looks = {spec.name: (spec, _together(find_look(spec))) for spec in specs if spec.enabled}
        self._facts_factory = facts_factory
        self._clock = clock
        self._concurrency = concurrency
        self._slots: dict[str, int] = {}

    @property
    def specs(self) -> tuple[CheckSpec, ...]:
        """The checks that are enabled, in the configuration's order."""
        return tuple(spec for spec, _ in self._looks.values())

    async def run(
        self, names: Collection[str] | None = None, on_result: Callable[[Result], None] | None = None
    ) -> tuple[Result, ...]:
        """Look once at the checks of these names (all, if none are given) and give their results in their order.

        Raises KeyError for a name that is no enabled check.
        """
        chosen = [self._looks[name] for name in (self._looks if names is None else dict.fromkeys(names))]
        facts = self._facts_factory()
        facts.asked = None if names is None else frozenset(names)
        places = asyncio.Semaphore(self._concurrency)
        results: dict[str, Result] = {}

        def keep(result: Result) -> None:
            results[result.finding.check] = result
            if on_result is not None:
                on_result(result)

        async def look_at(specs: Sequence[CheckSpec], together: Together) -> None:
            async with _Place(places):
                await self._look(facts, specs, together, keep)

        async with asyncio.TaskGroup() as tasks:
            for specs, together in _grouped(chosen):
                tasks.create_task(look_at(specs, together), name=f"check {specs[0].name}")
        return tuple(results[spec.name] for spec, _ in chosen)

    async def _look(
        self, facts: Facts, specs: Sequence[CheckSpec], together: Together, keep: Callable[[Result], None]
    ) -> None:
        awaited = {spec.name: spec for spec in specs}
        said = log.bind()
        began_s = self._clock()

        def found(name: str, finding: Finding) -> None:
            nonlocal began_s
            finding, ended_s = _tidy(finding, awaited.pop(name)), self._clock()
            said.debug("check_ran", check=name, status=finding.status.value, message=finding.message)
            keep(Result(finding, ended_s, ended_s - began_s))
            began_s = ended_s

        otherwise = await _guarded(together.look_at(facts, specs, found), specs)
        for spec in tuple(awaited.values()):
            found(spec.name, otherwise(spec))

    def due(self, now_s: float, done: Collection[str] = ()) -> tuple[str, ...]:
        """Name the checks whose interval has begun since they were last named here, but for those that are done.

        At first all of them. Intervals are counted from the epoch of the wall clock, so that all nodes look at the same
        moment: a parallel job is disturbed on all its nodes at once, not on one after the other. A clock that was set
        names them again. The offset moves them all.
        """
        now_s -= self._offset_s
        names = []
        for spec in self._recurring(done):
            slot = math.floor(now_s / spec.interval_s)
            if self._slots.get(spec.name) != slot:
                self._slots[spec.name] = slot
                names.append(spec.name)
        return tuple(names)

    def next_due(self, now_s: float, done: Collection[str] = ()) -> float | None:
        """Tell when (wall clock) the next interval begins; None if no check is ever due by itself."""
        intervals = {spec.interval_s for spec in self._recurring(done)}
        moved_s = now_s - self._offset_s
        return min(((math.floor(moved_s / each) + 1) * each + self._offset_s for each in intervals), default=None)

    def _recurring(self, done: Collection[str]) -> Iterable[CheckSpec]:
        return (spec for spec, _ in self._looks.values() if spec.when is not When.RESUME and spec.name not in done)


class _Place:
    """A place, given up when patience ends: those who hang must not keep the others waiting."""

    __slots__ = ("_given_up", "_places", "_timer")

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._given_up = False

    async def __aenter__(self) -> None:
        await self._places.acquire()
        self._timer = asyncio.get_running_loop().call_later(PATIENCE_S, self._give_up)

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()
        self._give_up()

    def _give_up(self) -> None:
        if not self._given_up:
            self._given_up = True
            self._places.release()


class _Alone:
    """One check, looked at by itself."""

    def __init__(self, look: Look) -> None:
        self._look = look

    async def look_at(self, facts: Facts, specs: Sequence[CheckSpec], found: Found) -> None:
        for spec in specs:
            found(spec.name, await self._look(facts, spec.limits, spec.name))


def _together(look: Look | Together) -> Together:
    return _Alone(look) if callable(look) else look


def _grouped(chosen: Iterable[tuple[CheckSpec, Together]]) -> Iterable[tuple[list[CheckSpec], Together]]:
    """Put together what is looked at together, where the first of it is."""
    groups: dict[int, tuple[list[CheckSpec], Together]] = {}
    for spec, together in chosen:
        groups.setdefault(id(together), ([], together))[0].append(spec)
    return groups.values()


async def _guarded(looking: Awaitable[None], specs: Sequence[CheckSpec]) -> Callable[[CheckSpec], Finding]:
    """Wait for a look, and give what is to be said of the checks that it told nothing of."""
    deadline_s = max(spec.deadline_s for spec in specs)
    deadline = asyncio.timeout(deadline_s)
    # Each look has a task of its own, so this tells nobody else.
    ASKED_UNTIL.set(asyncio.get_running_loop().time() + deadline_s)
    try:
        async with deadline:
            await looking
        return _otherwise("not looked at")
    except Unanswered as error:
        return _otherwise(str(error), error.for_s)
    except TimeoutError as error:
        late = deadline.expired()
        return _otherwise(
            f"did not answer within {deadline_s:g} s" if late else f"could not be looked at: {error or 'timed out'}"
        )
    except RefloatError as error:
        return _otherwise(str(error))
    except Exception as error:
        log.exception("check_raised", check=specs[0].name)
        return _otherwise(f"could not be looked at: {type(error).__name__}: {error}")


def _otherwise(message: str, silent_s: float = -math.inf) -> Callable[[CheckSpec], Finding]:
    def finding(spec: CheckSpec) -> Finding:
        fails = spec.fail_unanswered_s is not None and silent_s >= spec.fail_unanswered_s
        return (failed if fails else unknown)(spec.name, message)

    return finding


def _tidy(finding: Finding, spec: CheckSpec) -> Finding:
    message = _line(finding.message)
    if finding.check == spec.name and finding.message == message:
        return finding
    return Finding(spec.name, finding.status, message, finding.measures)


def _line(text: str) -> str:
    # Messages carry process titles, file names and what programs print: one line, printable, of bounded length.
    # Blanks within a line stay: those who read logs know NHC's two behind a check's name.
    printable = text[: 4 * MESSAGE_CAP]
    if not printable.isprintable():
        printable = "".join(character if character.isprintable() else "\n" for character in printable)
    line = " ".join(part for each in printable.split("\n") if (part := each.strip()))
    return line if len(line) <= MESSAGE_CAP else line[: MESSAGE_CAP - 1] + "…"
