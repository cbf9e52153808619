# SPDX-License-Identifier: Apache-2.0
"""Notifications: what a human must look at, told to a command or a webhook, at least once and never in a flood.

Each target has its own place in the event log, kept in the ledger. What happens while one is told waits and is told
together: one JSON object, all its events.
"""

import asyncio
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import structlog
import urllib3
from urllib3.util import parse_url

from refloat_contract.errors import Refused, Transient
from refloat_contract.messages import Event
from refloat_contract.reasons import one_line
from refloat_contract.words import EventKind
from refloat_coordinator.clock import Clock
from refloat_coordinator.lease import Deposed
from refloat_coordinator.record.ledger import Ledger, Pending
from refloat_service import commands

log = structlog.get_logger(__name__)

AT_ONCE: Final = 500
"""So many events are in one notification at most; what is more goes into the next."""
TOLD: Final = "told"
FAILED: Final = "failed"
REPEATED: Final = "repeated"
GIVEN_UP: Final = "given_up"
_NAMED: Final = 5
_REMEMBERED: Final = 1000
_FIRST_DELAY_S: Final = 2.0
_LONGEST_DELAY_S: Final = 300.0
_GRACE_S: Final = 2.0
_ANSWER_CAP_BYTES: Final = 4096
_SUCCESS: Final = range(200, 300)


class Target(Protocol):
    """Somebody to tell."""

    async def tell(self, body: bytes) -> None:
        """Return when it was told.

        Raises:
            Transient, Refused: it was not; the sentence says why.
        """
        ...


class Command:
    """A program that gets the notification on its standard input; exit status 0 is good."""

    def __init__(self, argv: Sequence[str], deadline_s: float) -> None:
        self._argv = argv
        self._deadline_s = deadline_s

    async def tell(self, body: bytes) -> None:
        """Run it."""
        done = await commands.run(self._argv, deadline_s=self._deadline_s, stdin=body)
        if done.returncode:
            raise Transient(f"{self._argv[0]} ended with {done.returncode}: {one_line(done.complaint, 300)}")


class Webhook:
    """A URL that gets the notification as a POST of JSON; any 2xx is good. Redirects are not followed."""

    def __init__(self, url: str, headers: Mapping[str, str], deadline_s: float) -> None:
        self._url = url
        self._headers = {**headers, "Content-Type": "application/json"}
        self._deadline_s = deadline_s
        self._pool = urllib3.PoolManager(maxsize=1, retries=False)

    async def tell(self, body: bytes) -> None:
        """Post it."""
        try:
            async with asyncio.timeout(self._deadline_s + _GRACE_S):
                status, said = await asyncio.to_thread(self._post, body)
        except TimeoutError as error:
            raise Transient(f"{self._host} did not answer within {self._deadline_s:g} s") from error
        if status not in _SUCCESS:
            raise Transient(f"{self._host} answered {status}: {one_line(said, 300)}")

    @property
    def _host(self) -> str:
        # Not the whole URL: its path may be a secret, as chats' webhooks are.
        return parse_url(self._url).host or "the webhook"

    def _post(self, body: bytes) -> tuple[int, str]:
        timeout = urllib3.Timeout(total=self._deadline_s)
        try:
            answer = self._pool.request(
                "POST", self._url, body=body, headers=self._headers, timeout=timeout, preload_content=False
            )
            said = answer.read(_ANSWER_CAP_BYTES).decode(errors="replace")
            answer.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Transient(f"cannot reach {self._host}: {type(error).__name__}") from error
        return answer.status, said


class Notices:
    """Tells one target of the events of some kinds, one notification at most in ``pause_s``.

    ``counts`` has how many events were told, how many tries failed, and how many events were not told: repeated (the
    same was told less than ``quiet_s`` ago) or given up (it could not be told for ``give_up_s``).
    """

    def __init__(
        self,
        name: str,
        target: Target,
        ledger: Ledger,
        clock: Clock,
        *,
        cluster: str,
        kinds: Sequence[EventKind],
        pause_s: float = 10.0,
        quiet_s: float = 600.0,
        give_up_s: float = 86400.0,
        spread: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.name = name
        self.counts = {TOLD: 0, FAILED: 0, REPEATED: 0, GIVEN_UP: 0}
        self._target = target
        self._ledger = ledger
        self._clock = clock
        self._cluster = cluster
        self._kinds = tuple(kinds)
        self._pause_s = pause_s
        self._quiet_s = quiet_s
        self._give_up_s = give_up_s
        self._spread = spread
        self._news = asyncio.Event()
        self._last_told: dict[tuple[str, ...], float] = {}
        self._seen = 0

    def wake(self) -> None:
        """There are new events."""
        self._news.set()

    async def run(self) -> None:
        """Tell until cancelled. What happened before this target was first configured is not told."""
        self._seen = await self._ledger.cursor(self._cursor)
        self._news.set()
        delay_s, failing_since = _FIRST_DELAY_S, None
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                is_told = await self.tell()
            except Deposed:
                raise
            except (Transient, Refused) as error:
                failing_since = failing_since or self._clock.now()
                await self._failed(str(error), delay_s, self._clock.now() - failing_since)
                delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
                continue
            delay_s, failing_since = _FIRST_DELAY_S, None
            if is_told:
                await self._clock.sleep(self._pause_s)
                self._news.set()  # what came meanwhile

    async def tell(self) -> bool:
        """Tell what is due; answers whether there was anything.

        Raises:
            Transient, Refused: it was not told; it stays due.
        """
        due, last = await self._ledger.after(self._seen, self._kinds, AT_ONCE)
        now = self._clock.now()
        fresh = {_sameness(item.event): item.event for item in due if not self._is_repeated(item.event, now)}
        if fresh:
            await self._target.tell(notification(self._cluster, list(fresh.values())))
            log.info("notification_told", target=self.name, events=len(fresh))
        self.counts[TOLD] += len(fresh)
        self.counts[REPEATED] += len(due) - len(fresh)
        recent = {key: at for key, at in self._last_told.items() if now - at < self._quiet_s}
        self._last_told = dict(list({**recent, **dict.fromkeys(fresh, now)}.items())[-_REMEMBERED:])
        await self._move(due, last)
        return bool(fresh)

    async def _failed(self, why: str, delay_s: float, failing_s: float) -> None:
        self.counts[FAILED] += 1
        log.warning("notification_failed", target=self.name, why=why, again_in_s=round(delay_s))
        if failing_s > self._give_up_s:
            due, last = await self._ledger.after(self._seen, self._kinds, AT_ONCE)
            self.counts[GIVEN_UP] += len(due)
            log.error("notification_given_up", target=self.name, events=len(due), so_far=self.counts[GIVEN_UP])
            await self._move(due, last)
        await self._clock.sleep(self._spread(delay_s / 2, delay_s))
        self._news.set()

    async def _move(self, due: Sequence[Pending], last: int) -> None:
        # Kept only after something was due: until then a start looks through the same events again.
        if due:
            await self._ledger.move_cursor(self._cursor, last)
        self._seen = last

    def _is_repeated(self, event: Event, now: float) -> bool:
        told_at = self._last_told.get(_sameness(event))
        return told_at is not None and now - told_at < self._quiet_s

    @property
    def _cursor(self) -> str:
        return f"notify {self.name}"


def notification(cluster: str, events: Sequence[Event]) -> bytes:
    """What is told: ``text`` for people (and for chats that show just that), and the events."""
    shown = [f"{event.node}: {event.title}: {one_line(event.message, 500)}" for event in events[:_NAMED]]
    more = [f"and {len(events) - _NAMED} more"] if len(events) > _NAMED else []
    told: dict[str, Any] = {
        "v": 1,
        "cluster": cluster,
        "text": "\n".join([f"refloat on {cluster}:", *shown, *more]),
        "events": [event.model_dump(mode="json", exclude_defaults=True) for event in events],
    }
    return json.dumps(told, ensure_ascii=False).encode()


def _sameness(event: Event) -> tuple[str, ...]:
    return (event.kind, event.node, event.wave, event.check, event.message)
