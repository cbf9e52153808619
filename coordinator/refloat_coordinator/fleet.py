# SPDX-License-Identifier: Apache-2.0
"""The fleet as it was last heard of: a fold of agents' reports, their events and Slurm's node table; pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, TypeAlias

from refloat_contract.messages import Event, NodeReport, NodeStatus, SlurmView
from refloat_contract.reasons import Dialect
from refloat_contract.words import EventKind, Outcome
from refloat_coordinator import outage

_WAVES_KEPT: Final = 8
_FOLDS_KEPT: Final = 64


@dataclass(frozen=True, slots=True)
class Done:
    """A cycle that a node ended well, as its agent reports it; ``boot_id`` is empty where it named none."""

    cycle: str
    boot_id: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its agent's last report (kept when the last will arrives), Slurm's view, and cycles done by wave.

    ``since`` is when ``online`` last changed, by the coordinator's clock; None stands for never heard, never read.
    """

    name: str
    online: bool = False
    since: float = 0.0
    report: NodeReport | None = None
    slurm: SlurmView | None = None
    done: Mapping[str, Done] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Heard:
    """An agent's status arrived."""

    status: NodeStatus


@dataclass(frozen=True, slots=True)
class Told:
    """An agent's event arrived."""

    event: Event


@dataclass(frozen=True, slots=True)
class Read:
    """Slurm's whole node table was read: the views that changed. ``began_at`` is when the read was begun."""

    began_at: float
    changed: tuple[SlurmView, ...]


@dataclass(frozen=True, slots=True)
class Unread:
    """slurmctld did not answer."""

    why: str


Fact: TypeAlias = Heard | Told | Read | Unread


@dataclass(frozen=True, slots=True)
class Fleet:
    """All nodes, and what follows from Slurm's table for all of them.

    ``outages`` says why a node is out by Slurm's word; ``known`` are the nodes in Slurm's table, and ``absent`` those
    of them that neither serve nor are missing (see `outage.is_absent`); ``read_at`` is when the last good read began
    (0: there was none), ``reads`` counts them; ``slurm_why`` is empty while Slurm answers.

    ``stamp`` is this fleet's own; ``history`` has the stamps of the fleets before it, oldest first, each with the nodes
    that facts have told of since then, up to the next.
    """

    dialect: Dialect = field(default_factory=Dialect)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    outages: Mapping[str, str] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    read_at: float = 0.0
    reads: int = 0
    slurm_why: str = "the node table has not been read yet"
    stamp: object = field(default_factory=object, compare=False, repr=False)
    history: tuple[tuple[object, frozenset[str]], ...] = field(default=(), compare=False, repr=False)

    @property
    def slurm_ok(self) -> bool:
        """Whether the last read of Slurm's table was good."""
        return not self.slurm_why

    @property
    def serving(self) -> frozenset[str]:
        """The nodes that could serve: what a percentage of nodes is a part of."""
        return _serving(self.known, self.absent) if self.absent else self.known

    def told_since(self, stamp: object) -> set[str] | None:
        """The nodes that facts have told of since the fleet of this stamp; None where that is not known."""
        if stamp is self.stamp:
            return set()
        names: set[str] = set()
        for before, told in reversed(self.history):
            names |= told
            if before is stamp:
                return names
        return None

    def node(self, name: str) -> Node:
        """The node; one never heard of is empty."""
        return self.nodes.get(name) or Node(name)


@lru_cache(maxsize=2)
def _serving(known: frozenset[str], absent: frozenset[str]) -> frozenset[str]:
    return known - absent


def fold(fleet: Fleet, facts: Iterable[Fact], now: float) -> Fleet:
    """The fleet after these facts, in their order. The same fact twice changes nothing."""
    nodes = dict(fleet.nodes)
    after = replace(fleet, nodes=nodes)
    told: set[str] = set()
    for fact in facts:
        match fact:
            case Heard(status):
                told.add(status.node)
                nodes[status.node] = _heard(nodes.get(status.node) or Node(status.node), status, now)
            case Told(event):
                told.add(event.node)
                nodes[event.node] = _told(nodes.get(event.node) or Node(event.node), event)
            case Read():
                told.update(view.node for view in fact.changed)
                after = _read(after, nodes, fact)
            case Unread(why):
                after = replace(after, slurm_why=why)
    history = (*fleet.history, (fleet.stamp, frozenset(told)))[-_FOLDS_KEPT:]
    return replace(after, stamp=object(), history=history)


def _heard(node: Node, status: NodeStatus, now: float) -> Node:
    since = now if status.online != node.online or not node.since else node.since
    report = status.report or node.report
    node = Node(node.name, status.online, since, report, node.slurm, node.done)
    last = status.report.last_cycle if status.report else None
    if last is None or not last.wave or last.outcome is not Outcome.DONE:
        return node
    return _with_done(node, last.wave, Done(last.id, last.boot_id))


def _told(node: Node, event: Event) -> Node:
    if event.kind is not EventKind.RESUMED or not event.wave:
        return node
    return _with_done(node, event.wave, Done(event.cycle, event.boot_id))


def _with_done(node: Node, wave: str, done: Done) -> Node:
    known = node.done.get(wave)
    if known == done or (known and known.cycle == done.cycle and not done.boot_id):
        return node
    # The newest last, so that the oldest are forgotten.
    others = [(w, d) for w, d in node.done.items() if w != wave]
    return replace(node, done=dict([*others, (wave, done)][-_WAVES_KEPT:]))


def _read(fleet: Fleet, nodes: dict[str, Node], read: Read) -> Fleet:
    outages = dict(fleet.outages)
    gone, come, absent = set[str](), set[str](), set(fleet.absent)
    for view in read.changed:
        node = nodes.get(view.node) or Node(view.node)
        nodes[view.node] = Node(node.name, node.online, node.since, node.report, view, node.done)
        is_absent = outage.is_absent(view)
        (absent.add if is_absent else absent.discard)(view.node)
        (come if view.known else gone).add(view.node)
        why = outage.cause(view, fleet.dialect)
        if why and not is_absent:
            outages[view.node] = why
        else:
            outages.pop(view.node, None)
    # The same sets while they are the same: what was counted by them is good for as long.
    is_same = come <= fleet.known and gone.isdisjoint(fleet.known)
    return replace(
        fleet,
        outages=outages,
        known=fleet.known if is_same else (fleet.known - gone) | come,
        absent=fleet.absent if absent == fleet.absent else frozenset(absent),
        read_at=read.began_at,
        reads=fleet.reads + 1,
        slurm_why="",
    )
