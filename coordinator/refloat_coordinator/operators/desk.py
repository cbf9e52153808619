# SPDX-License-Identifier: Apache-2.0
"""The desk: what the command line may ask of the coordinator over its control socket or MQTT."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError

from refloat_contract import story
from refloat_contract.errors import BadMessage, Misconfigured, RefloatError, Refused, Transient
from refloat_contract.messages import Event, WaveNode, WaveReport, WaveSpec
from refloat_contract.reasons import is_option_value
from refloat_contract.words import EventKind, NodeOrder, OnDeadline, Phase, Turn
from refloat_coordinator import hostlists, questions
from refloat_coordinator.clock import Clock
from refloat_coordinator.fleet import Fleet
from refloat_coordinator.loop import Loop
from refloat_coordinator.operators import summary
from refloat_coordinator.operators.explain import explain
from refloat_coordinator.record import event_filter
from refloat_coordinator.record.event_filter import EventFilter
from refloat_coordinator.record.ledger import Ledger
from refloat_coordinator.waves import blocker, estimate, moves, planning, window
from refloat_coordinator.waves import wave as wave_rules
from refloat_coordinator.waves.blocker import AskBlocker
from refloat_coordinator.waves.wave import Wave
from refloat_coordinator.waves.world import World
from refloat_service import callers
from refloat_service.control import Handler
from refloat_slurm import states
from refloat_slurm.gateway import ClusterGateway

WATCH_PERIOD_S: Final = 0.25
_MAX_EVENTS: Final = 100_000
_RECENT: Final = 200
"""Events of one node to look for its cycle in."""
_CYCLES_TOLD: Final = 5000
"""Events to look for past cycles in."""

Arguments = Mapping[str, Any]


class Desk:
    """Answers questions and takes orders; the loop does the work."""

    def __init__(
        self,
        loop: Loop,
        ledger: Ledger,
        clock: Clock,
        gateway: ClusterGateway | None = None,
        blockers: Collection[str] = (),
    ) -> None:
        self._loop = loop
        self._ledger = ledger
        self._clock = clock
        self._gateway = gateway
        self._blockers = frozenset(blockers)

    def handlers(self) -> dict[str, Handler]:
        """All commands, by their names."""
        return {
            "wave_plan": self.wave_plan,
            "wave_start": self.wave_start,
            "wave_list": self.wave_list,
            "wave_show": self.wave_show,
            "wave_watch": self.wave_watch,
            "wave_pause": self.wave_pause,
            "wave_resume": self.wave_resume,
            "wave_abort": self.wave_abort,
            "wave_retry": self.wave_retry,
            "wave_skip": self.wave_skip,
            "expand": self.expand,
            "status": self.status,
            "summary": self.summary,
            "why": self.why,
            "events": self.events,
            "events_follow": self.events_follow,
        }

    async def wave_plan(self, arguments: Arguments) -> dict[str, Any]:
        """What a wave would do if it began now; changes nothing, but asks its blocker about the first nodes."""
        spec, nodes = self._spec(arguments)
        fleet, now = self._read_fleet(), self._clock.now()
        free_at, jobs_why = await self._free_at()
        wave = wave_rules.create("plan", spec, nodes, now)
        world = replace(self._loop.world(wave), free_at=free_at, jobs_at=now, answer=None)
        wave = wave_rules.create("plan", spec, moves.in_order(spec, nodes, world), now)
        world, said = await self._asked(wave, world)
        told = await self._ledger.events(kinds=estimate.TOLD, limit=_CYCLES_TOLD)
        times = estimate.times_out(told, spec.recipe)
        known = planning.Known(times, jobs_why, self._loop.conflict(wave), said)
        # Thousands of nodes take a while to play and to fold: nobody else has to wait for that.
        planned = await asyncio.to_thread(planning.plan, wave, world, known, now)
        after, _ = moves.decide(wave, world, now)
        return {"spec": spec, "counts": self._loop.report(after).counts, "nodes": _nodes(after, fleet), **planned}

    async def _free_at(self) -> tuple[Mapping[str, float], str]:
        """When the last job of each node ends, and why that is not known."""
        if self._gateway is None:
            return {}, "there is no way to Slurm"
        try:
            return questions.free_at(await self._gateway.all_jobs()), ""
        except RefloatError as error:
            return {}, str(error)

    async def _asked(self, wave: Wave, world: World) -> tuple[World, str]:
        """The world with what the wave's blocker says of the nodes that would be first, and that in words."""
        caller = callers.CALLER.get()
        if caller is not None and not caller.may_act:
            return world, "not asked: you may only read here" if wave.spec.blocker else ""
        _, decisions = moves.decide(wave, world, self._clock.now())
        for question in decisions:
            if isinstance(question, AskBlocker):
                answer = await questions.ask_blocker(question, self._clock)
                return replace(world, answer=answer), answer.why or f"lets {len(question.nodes)} nodes go"
        return world, ""

    async def wave_start(self, arguments: Arguments) -> WaveReport:
        """Begin a wave."""
        spec, nodes = self._spec(arguments)
        self._read_fleet()
        if self._loop.trouble:
            raise Transient(f"no wave is begun while nothing can be saved: {self._loop.trouble}")
        free_at = (await self._free_at())[0] if spec.order is NodeOrder.SOONEST_FREE else {}
        now, by = self._clock.now(), await callers.name()
        world = World(self._loop.fleet, free_at=free_at, jobs_at=now)
        day = datetime.fromtimestamp(now, UTC).strftime("%y%m%d")
        # Never one that was used before: agents remember which wave their last cycle belonged to.
        name = f"w{day}-{secrets.token_hex(3)}"
        return await self._loop.start(wave_rules.create(name, spec, moves.in_order(spec, nodes, world), now, by))

    async def wave_list(self, _arguments: Arguments) -> list[WaveReport]:
        """All waves that are still known, oldest first."""
        ended = await self._ledger.load_waves(ended=True)
        known = {wave.id: wave for wave in (*ended, *self._loop.waves.values())}
        return [self._loop.report(wave) for wave in known.values()]

    async def wave_show(self, arguments: Arguments) -> dict[str, Any]:
        """A wave and all its nodes."""
        wave = await self._wave(_text(arguments, "id"))
        return {"report": self._loop.report(wave), "nodes": _nodes(wave, self._loop.fleet)}

    async def wave_watch(self, arguments: Arguments) -> AsyncIterator[dict[str, Any]]:
        """The same as `wave_show`, whenever it changes, until the wave has ended."""
        last: dict[str, Any] = {}
        while True:
            wave = await self._wave(_text(arguments, "id"))
            shown = {"report": self._loop.report(wave), "nodes": _nodes(wave, self._loop.fleet)}
            if shown != last:
                yield shown
                last = shown
            if wave.is_ended:
                return
            await self._clock.sleep(WATCH_PERIOD_S)

    async def wave_pause(self, arguments: Arguments) -> WaveReport:
        """Mark no more nodes."""
        by = await callers.name()
        return await self._change(
            arguments, lambda wave, _fleet, _now: wave_rules.paused(wave, by), EventKind.WAVE_PAUSED, "paused", by
        )

    async def wave_resume(self, arguments: Arguments) -> WaveReport:
        """Go on."""
        by = await callers.name()
        return await self._change(
            arguments, lambda wave, _fleet, _now: wave_rules.resumed(wave), EventKind.WAVE_RESUMED, "resumed", by
        )

    async def wave_abort(self, arguments: Arguments) -> WaveReport:
        """End: give drains back where no cycle has begun, let the others finish."""
        by = await callers.name()
        return await self._change(
            arguments, lambda wave, _fleet, _now: wave_rules.aborted(wave), EventKind.WAVE_ABORTED, "aborted", by
        )

    async def wave_retry(self, arguments: Arguments) -> WaveReport:
        """Try held or skipped nodes again."""
        nodes, by = self._hostlist(arguments), await callers.name()
        chosen = _or_held(await self._wave(_text(arguments, "id")), nodes)
        return await self._change(
            arguments,
            lambda wave, fleet, now: wave_rules.retried(wave, chosen, fleet, now),
            EventKind.NODES_RETRIED,
            f"{hostlists.fold(chosen)} to be tried again",
            by,
        )

    async def wave_skip(self, arguments: Arguments) -> WaveReport:
        """Take nodes out of the wave."""
        nodes, by = self._hostlist(arguments), await callers.name()
        if not nodes:
            raise Misconfigured("say which nodes to skip: n[1-4]")
        return await self._change(
            arguments,
            lambda wave, _fleet, now: wave_rules.skipped(wave, nodes, now, by),
            EventKind.NODES_SKIPPED,
            f"{hostlists.fold(nodes)} taken out of the wave",
            by,
        )

    async def expand(self, arguments: Arguments) -> list[str]:
        """The nodes that a hostlist names, groups and patterns included."""
        return list(self._hostlist(arguments))

    async def summary(self, arguments: Arguments) -> list[dict[str, Any]]:
        """How these nodes are, or all: those that are alike together, most first."""
        found = await self.status(arguments)
        return await asyncio.to_thread(summary.groups, found)

    async def status(self, arguments: Arguments) -> list[dict[str, Any]]:
        """What agents and Slurm say of these nodes, or of all."""
        fleet = self._loop.fleet
        names = self._hostlist(arguments) or hostlists.in_order(fleet.known | fleet.nodes.keys())
        found = [fleet.node(name) for name in names]
        return [{"node": n.name, "online": n.online, "report": n.report, "slurm": n.slurm} for n in found]

    async def why(self, arguments: Arguments) -> dict[str, Any]:
        """What a node waits for, in one sentence, and what that is drawn from."""
        name = _text(arguments, "node")
        recent = await self._ledger.events(nodes=[name], limit=_RECENT)
        loop, now = self._loop, self._clock.now()
        jobs = await self._jobs_of(name)
        return explain(name, loop.fleet, loop.permits, loop.waves.values(), recent, jobs=jobs, now=now)

    async def _jobs_of(self, name: str) -> str:
        """The jobs that a draining node waits for: asked of Slurm only when somebody wants to know."""
        node = self._loop.fleet.node(name)
        waits = node.report is not None and node.report.phase is Phase.DRAINING
        if self._gateway is None or not waits or node.slurm is None or not states.is_busy(frozenset(node.slurm.flags)):
            return ""
        try:
            found = await self._gateway.jobs(name)
        except RefloatError as error:
            return f"its jobs could not be listed: {error}"
        return story.jobs([(job.id, job.user, job.ends_at) for job in found], self._clock.now())

    async def events(self, arguments: Arguments) -> list[Event]:
        """The newest events, oldest first."""
        limit = int(_number(arguments, "limit", 1000))
        if not 1 <= limit <= _MAX_EVENTS:
            raise Misconfigured(f"limit must lie between 1 and {_MAX_EVENTS}")
        since_ns = int(_number(arguments, "since", 0) * 1e9)
        asked = self._filter(arguments)
        return await self._ledger.events(
            nodes=asked.nodes,
            since_ns=since_ns,
            kinds=asked.kinds,
            checks=asked.checks,
            waves=asked.waves,
            limit=limit,
        )

    async def events_follow(self, arguments: Arguments) -> AsyncIterator[Event]:
        """Every new event, until the asker hangs up."""
        wanted = self._filter(arguments)
        queue = self._loop.followers.follow()
        try:
            while True:
                event = await queue.get()
                if wanted.fits(event):
                    yield event
        finally:
            self._loop.followers.unfollow(queue)

    def _filter(self, arguments: Arguments) -> EventFilter:
        return EventFilter(
            frozenset(self._hostlist(arguments)),
            event_filter.kinds(_texts(arguments, "kinds")),
            frozenset(_texts(arguments, "checks")),
            frozenset(_texts(arguments, "waves")),
        )

    def _hostlist(self, arguments: Arguments) -> tuple[str, ...]:
        """The nodes asked for, as a hostlist or a list of them; none asked for is empty."""
        value = arguments.get("nodes")
        if not value:
            return ()
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            value = ",".join(value)
        if not isinstance(value, str):
            raise BadMessage(f"nodes: {value!r} is no hostlist")
        return self._expand(value)

    def _expand(self, text: str) -> tuple[str, ...]:
        return hostlists.expand(text, self._loop.groups.kinds, self._loop.fleet.known)

    async def _change(
        self, arguments: Arguments, change: Callable[[Wave, Fleet, float], Wave], kind: EventKind, what: str, by: str
    ) -> WaveReport:
        wave = await self._wave(_text(arguments, "id"))
        if wave.is_ended:
            raise Refused(f"wave {wave.id} has ended: {wave.state}")
        return await self._loop.change(wave.id, change, kind, by, what)

    async def _wave(self, wave_id: str) -> Wave:
        wave = self._loop.waves.get(wave_id)
        if wave is not None:
            return wave
        for ended in await self._ledger.load_waves(ended=True):
            if ended.id == wave_id:
                return ended
        raise Refused(f"there is no wave {wave_id!r} (`refloat wave list` names them)")

    def _read_fleet(self) -> Fleet:
        fleet = self._loop.fleet
        if not fleet.reads:
            raise Transient(f"Slurm's node table has not been read yet: {fleet.slurm_why}")
        return fleet

    def _spec(self, arguments: Arguments) -> tuple[WaveSpec, tuple[str, ...]]:
        given = arguments.get("spec")
        if not isinstance(given, dict):
            raise BadMessage("a wave needs a spec: a table with at least 'nodes'")
        unknown = sorted(given.keys() - WaveSpec.model_fields.keys())
        if unknown:
            known = ", ".join(WaveSpec.model_fields)
            raise Misconfigured(f"a wave's spec has no {unknown[0]!r} (known: {known})")
        try:
            spec = WaveSpec.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            raise Misconfigured(f"{'.'.join(map(str, first['loc'])) or 'spec'}: {first['msg']}") from error
        self._refuse_unreadable(spec)
        return self._with_known_recipe(spec), self._expand(spec.nodes)

    def _refuse_unreadable(self, spec: WaveSpec) -> None:
        """Say now what would otherwise show when the wave is under way."""
        try:
            if spec.window:
                window.parse(spec.window)
            if spec.blocker:
                blocker.split(spec.blocker)
        except ValueError as error:
            raise Misconfigured(str(error)) from error
        for kind in spec.per_group:
            self._loop.groups.of(kind)
        if spec.on_deadline is not OnDeadline.HOLD and spec.deadline_s is None:
            raise Misconfigured(f"on_deadline {spec.on_deadline} says nothing without a deadline: add --deadline 4h")
        caller = callers.CALLER.get()
        if spec.blocker and caller is not None and not caller.is_at_home(os.geteuid()):
            self._refuse_foreign(spec.blocker)

    def _refuse_foreign(self, command: str) -> None:
        """A blocker runs as this daemon: whoever may start waves may not run any program by that."""
        if command not in self._blockers:
            known = ", ".join(sorted(self._blockers)) or "none"
            raise Refused(
                f"blocker {command!r} is not one that operators may name (waves.blockers in coordinator.toml: {known});"
                " root may name any"
            )

    def _with_known_recipe(self, spec: WaveSpec) -> WaveSpec:
        dialect = self._loop.fleet.dialect
        word = dialect.word_for_recipe(spec.recipe) or dialect.word(spec.recipe)
        if word is None:
            known = ", ".join(dict.fromkeys(w.recipe for w in dialect.words))
            raise Misconfigured(f"recipe: no word asks for {spec.recipe!r} (known recipes: {known})")
        if spec.image and not is_option_value(spec.image):
            raise Misconfigured(
                f"image: {spec.image!r} cannot stand in a reason: use one word of letters, digits, ._:/@+-"
            )
        return spec.model_copy(update={"recipe": word.recipe})


def _or_held(wave: Wave, nodes: tuple[str, ...]) -> tuple[str, ...]:
    held = nodes or tuple(m.node for m in wave.with_turn(Turn.HELD))
    if not held:
        raise Refused(f"wave {wave.id} holds no node")
    return held


def _nodes(wave: Wave, fleet: Fleet) -> list[WaveNode]:
    return [wave_rules.describe(member, fleet.node(member.node)) for member in wave.members]


def _text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or not value:
        raise BadMessage(f"{name} is missing, or no text")
    return value


def _texts(arguments: Arguments, name: str) -> list[str]:
    value = arguments.get(name) or []
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise BadMessage(f"{name}: {value!r} is no list of texts")
    return value


def _number(arguments: Arguments, name: str, default: float) -> float:
    value = arguments.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:  # noqa: PLR2004 - a date
        raise BadMessage(f"{name}: {value!r} is no number")
    return value
