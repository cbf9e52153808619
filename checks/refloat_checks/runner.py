# SPDX-License-Identifier: Apache-2.0
"""The one runner of checks: deadline, concurrency, output cap, duration, and UNKNOWN for all that goes wrong."""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterable
from typing import Final

import structlog

from refloat_checks.api import Finding, Result, When, failed, unknown
from refloat_checks.facts import Facts
from refloat_checks.probed import Unanswered
from refloat_checks.probes import ASKED_UNTIL
from refloat_checks.registry import CheckSpec, Look, look_of
from refloat_contract.errors import RefloatError

MESSAGE_CAP: Final = 400
CONCURRENCY: Final = 16
PATIENCE_S: Final = 0.5
log = structlog.get_logger()


def boottime_s() -> float:
    """Seconds since this boot, suspended time included: never compared with another machine's, nor another boot's."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Runner:
    """Looks at checks, each in its own task, and says when they are due.

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
        find_look: Callable[[CheckSpec], Look] = look_of,
        offset_s: float = 0.0,
    ) -> None:
        self._offset_s = offset_s
        self._looks = {spec.name: (spec, find_look(spec)) for spec in specs if spec.enabled}
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

        async def look_at(spec: CheckSpec, look: Look) -> Result:
            async with _Place(places):
                result = await self._look(facts, spec, look)
            if on_result is not None:
                on_result(result)
            return result

        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(look_at(spec, look), name=f"check {spec.name}") for spec, look in chosen]
        return tuple(task.result() for task in running)

    async def _look(self, facts: Facts, spec: CheckSpec, look: Look) -> Result:
        started_s = self._clock()
        finding = await _guarded(facts, spec, look)
        ended_s = self._clock()
        log.debug("check_ran", check=spec.name, status=finding.status.value, message=finding.message)
        return Result(finding, ended_s, ended_s - started_s)

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


async def _guarded(facts: Facts, spec: CheckSpec, look: Look) -> Finding:
    deadline = asyncio.timeout(spec.deadline_s)
    # Each look has a task of its own, so this tells nobody else.
    ASKED_UNTIL.set(asyncio.get_running_loop().time() + spec.deadline_s)
    try:
        async with deadline:
            return _tidy(await look(facts, spec.limits, spec.name), spec)
    except Unanswered as error:
        silent = spec.fail_unanswered_s is not None and error.for_s >= spec.fail_unanswered_s
        return (failed if silent else unknown)(spec.name, _line(str(error)))
    except TimeoutError as error:
        if not deadline.expired():
            return unknown(spec.name, _line(f"could not be looked at: {error or 'timed out'}"))
        return unknown(spec.name, f"did not answer within {spec.deadline_s:g} s")
    except RefloatError as error:
        return unknown(spec.name, _line(str(error)))
    except Exception as error:
        log.exception("check_raised", check=spec.name)
        return unknown(spec.name, _line(f"could not be looked at: {type(error).__name__}: {error}"))


def _tidy(finding: Finding, spec: CheckSpec) -> Finding:
    return Finding(spec.name, finding.status, _line(finding.message), finding.measures)


def _line(text: str) -> str:
    # Messages carry process titles, file names and what programs print: one line, printable, of bounded length.
    # Blanks within a line stay: those who read logs know NHC's two behind a check's name.
    printable = text[: 4 * MESSAGE_CAP]
    if not printable.isprintable():
        printable = "".join(character if character.isprintable() else "\n" for character in printable)
    line = " ".join(part for each in printable.split("\n") if (part := each.strip()))
    return line if len(line) <= MESSAGE_CAP else line[: MESSAGE_CAP - 1] + "…"
