# SPDX-License-Identifier: Apache-2.0
"""One wave as it is kept on disk, and what an operator may do to it; pure.

How a wave moves by itself is in `moves`; what one of its nodes does, in `turns`.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from enum import StrEnum
from typing import Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from refloat_contract.errors import Refused
from refloat_contract.messages import WaveNode, WaveReport, WaveSpec
from refloat_contract.words import Phase, Turn, WaveState
from refloat_coordinator.fleet import Fleet, Node
from refloat_coordinator.waves import census
from refloat_coordinator.waves.member import Member

_NAMED: Final = 3
"""So many nodes are named in a sentence; the rest is counted."""
ENDED: Final = frozenset({WaveState.DONE, WaveState.FAILED, WaveState.ABORTED})


class PauseCause(StrEnum):
    """Who or what paused a wave. One that Slurm's silence paused goes on by itself."""

    OPERATOR = "operator"
    FAILURES = "failures"
    CANARY = "canary"
    BUDGET = "budget"
    SLURM = "slurm"
    GROUPS = "groups"
    ABORT = "abort"


class Wave(BaseModel):
    """A wave. ``forgiven`` held nodes, and held canaries if ``canary_waived``, no longer pause it.

    ``announced`` and ``pauses_told`` say how much of it is in the record, ``steered`` how often an operator has changed
    it. ``soaking_since`` is since when the canaries are sound, ``stuck_since`` since when a budget or a silent canary
    keeps it from going on (0: not so); ``promoted``: the canaries were sound for as long as was asked.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: Literal[1] = 1
    id: str
    spec: WaveSpec
    state: WaveState = WaveState.RUNNING
    why: str = ""
    pause: PauseCause | None = None
    pauses: int = 0
    pauses_told: int = 0
    forgiven: int = 0
    canary_waived: bool = False
    promoted: bool = False
    soaking_since: float = 0.0
    stuck_since: float = 0.0
    by: str = ""
    steered: int = 0
    started_at: float = 0.0
    announced: bool = False
    ended_at: float = 0.0
    members: tuple[Member, ...] = Field(min_length=1)

    @property
    def is_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ENDED

    @property
    def is_aborting(self) -> bool:
        """Whether it only waits for nodes under way."""
        return self.pause is PauseCause.ABORT and not self.is_ended

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes that it is about; those that an operator took out of it are not."""
        return census.of(self.members).nodes

    def with_turn(self, *turns: Turn) -> tuple[Member, ...]:
        """The members with one of these turns."""
        return census.of(self.members).with_turn(*turns)

    def has(self, *turns: Turn) -> bool:
        """Whether any member has one of these turns."""
        return not census.of(self.members).by_turn.keys().isdisjoint(turns)

    def members_of(self, nodes: Iterable[str]) -> list[Member]:
        """The members of these names; names that it does not have are left out."""
        places = census.of(self.members).places
        return [self.members[place] for node in nodes if (place := places.get(node)) is not None]

    def with_members(self, changed: Iterable[Member]) -> "Wave":
        """This wave, in which these members have changed."""
        return self.but(members=census.changed(self.members, changed))

    def but(self, **changes: object) -> "Wave":
        """This wave with other values."""
        return self.model_copy(update=changes)


Described: TypeAlias = dict[str, tuple[Member, Node, WaveNode]]


def create(wave_id: str, spec: WaveSpec, nodes: Sequence[str], now: float, by: str = "") -> Wave:
    """A new wave over these nodes, which are taken in this order."""
    members = tuple(Member(node=node, since=now) for node in nodes)
    return Wave(id=wave_id, spec=spec, by=by, started_at=now, members=members)


def paused(wave: Wave, by: str = "") -> Wave:
    """The wave, paused by an operator: nothing is marked, nodes under way go on.

    Raises:
        Refused: it has ended or is being aborted.
    """
    _refuse_if_over(wave)
    return wave.but(
        state=WaveState.PAUSED,
        pause=PauseCause.OPERATOR,
        why=f"paused by {by or 'an operator'}",
        pauses=wave.pauses + 1,
    )


def resumed(wave: Wave) -> Wave:
    """The wave, going on; what paused it is forgiven, but the next held node counts again.

    Raises:
        Refused: it is not paused.
    """
    _refuse_if_over(wave)
    if wave.state is not WaveState.PAUSED:
        raise Refused(f"wave {wave.id} is {wave.state}, not paused")
    return wave.but(
        state=WaveState.RUNNING,
        pause=None,
        why="",
        forgiven=len(wave.with_turn(Turn.HELD)),
        canary_waived=wave.canary_waived or wave.pause is PauseCause.CANARY,
        stuck_since=0.0,
    )


def aborted(wave: Wave) -> Wave:
    """The wave, ending: nodes that have not begun get their drain back, nodes under way are let finish.

    Raises:
        Refused: it has ended. Twice is once.
    """
    if wave.is_aborting:
        return wave
    _refuse_if_over(wave)
    return wave.but(state=WaveState.PAUSED, pause=PauseCause.ABORT, why="aborting: nodes under way are let finish")


def retried(wave: Wave, nodes: Collection[str], fleet: Fleet, now: float) -> Wave:
    """The wave, with these held or skipped nodes waiting again.

    Raises:
        Refused: it has ended, or a node is not in it or has another turn.
    """
    _refuse_if_over(wave)

    def again(member: Member) -> Member:
        if member.turn not in {Turn.HELD, Turn.SKIPPED}:
            raise Refused(f"{member.node} is {member.turn} in wave {wave.id}: only held and skipped nodes are retried")
        spent = tuple(dict.fromkeys([*member.spent, *_cycles(fleet.node(member.node), wave.id)]))
        return Member(node=member.node, since=now, attempt=member.attempt + 1, spent=spent)

    return _changed(wave, nodes, again)


def skipped(wave: Wave, nodes: Collection[str], now: float, by: str = "") -> Wave:
    """The wave without these nodes; one under way is let finish, the wave no longer waits for it.

    Raises:
        Refused: it has ended, or a node is not in it or is done.
    """
    _refuse_if_over(wave)

    def leave_out(member: Member) -> Member:
        if member.turn is Turn.DONE:
            raise Refused(f"{member.node} is done in wave {wave.id} already")
        why = f"taken out of the wave by {by or 'an operator'}"
        return member.entering(Turn.SKIPPED, now, why).but(left_out=True)

    return _changed(wave, nodes, leave_out)


def report(wave: Wave, fleet: Fleet, described: Described | None = None) -> WaveReport:
    """The wave as it is told to the world: all counts, and the nodes under way or held.

    ``described`` only saves time: what the last report said of each node. It stands while both are the same objects.
    """
    before = described or {}
    shown: Described = {}
    for member in wave.with_turn(Turn.MARKED, Turn.HELD):
        node, last = fleet.node(member.node), before.get(member.node)
        is_same = last is not None and last[0] is member and last[1] is node
        shown[member.node] = last if last and is_same else (member, node, describe(member, node))
    if described is not None:
        described.clear()
        described.update(shown)
    return WaveReport(
        id=wave.id,
        spec=wave.spec,
        state=wave.state,
        why=wave.why,
        by=wave.by,
        started_at=wave.started_at,
        ended_at=wave.ended_at,
        counts=counts(wave),
        nodes=tuple(told for _, _, told in shown.values()),
    )


def counts(wave: Wave) -> dict[Turn, int]:
    """How many nodes have which turn; none with none."""
    found = census.of(wave.members).by_turn
    return {turn: len(found[turn]) for turn in Turn if turn in found}


def named(members: Sequence[Member]) -> str:
    """The first of these nodes, each with why, behind a colon; nothing where there is none."""
    if not members:
        return ""
    shown = ", ".join(f"{m.node} ({m.why})" for m in members[:_NAMED])
    return f": {shown}" + (f", and {len(members) - _NAMED} more" if len(members) > _NAMED else "")


def describe(member: Member, node: Node) -> WaveNode:
    """One node of a wave, with its agent's phase; the agent's word says best what a marked node waits for."""
    report = node.report
    phase = report.phase if report else Phase.IN_SERVICE
    why, since = member.why, member.since
    if member.turn is Turn.MARKED and report:
        why = why or report.why
        # Since when it is in this phase. By the node's clock: shown to people, and compared with nothing.
        since = max(since, report.since)
    lost = member.lost and member.turn is Turn.HELD
    return WaveNode(node=member.node, turn=member.turn, lost=lost, since=since, phase=phase, why=why)


def _changed(wave: Wave, nodes: Collection[str], change: Callable[[Member], Member]) -> Wave:
    places = census.of(wave.members).places
    missing = sorted(node for node in set(nodes) if node not in places)
    if missing:
        raise Refused(f"wave {wave.id} has no node {', '.join(missing[:5])}")
    moved = [change(wave.members[place]) for place in sorted({places[node] for node in nodes})]
    return wave.with_members(moved).but(stuck_since=0.0)


def _cycles(node: Node, wave: str) -> list[str]:
    report = node.report
    found = [node.done[wave].cycle] if wave in node.done else []
    if report and report.cycle and report.phase is not Phase.DRAINING:
        found.append(report.cycle.id)  # one that still waits for its jobs is taken up as it is
    if report and report.last_cycle:
        found.append(report.last_cycle.id)
    return found


def _refuse_if_over(wave: Wave) -> None:
    if wave.is_ended:
        raise Refused(f"wave {wave.id} has ended: {wave.state}")
    if wave.is_aborting:
        raise Refused(f"wave {wave.id} is being aborted")
