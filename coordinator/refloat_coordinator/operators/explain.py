# SPDX-License-Identifier: Apache-2.0
"""Why a node is as it is: one sentence, and the lines that it is drawn from; pure."""

from collections.abc import Iterable, Sequence
from typing import Any

from refloat_contract import story
from refloat_contract.messages import Event, NodeReport, SlurmView
from refloat_contract.words import Phase, Turn, Verdict
from refloat_coordinator.fleet import Fleet, Node
from refloat_coordinator.permits.permit import Permits
from refloat_coordinator.waves.member import Member
from refloat_coordinator.waves.wave import Wave

_SHOWN_TURNS = {Turn.WAITING, Turn.MARKED, Turn.HELD, Turn.SKIPPED}


_RECENT = 5


def explain(
    name: str,
    fleet: Fleet,
    permits: Permits,
    waves: Iterable[Wave],
    events: Sequence[Event],
    *,
    jobs: str = "",
    now: float = 0.0,
) -> dict[str, Any]:
    """Answer `refloat why`: ``sentence``, ``lines``, and what it is ``held`` with.

    ``jobs`` is what Slurm says of the jobs that are waited for.
    """
    node = fleet.node(name)
    turns = [(wave, m) for wave in waves for m in wave.members if m.node == name]
    lines = story.wait(node.report, now) if node.report and now else []
    lines += [_slurm(node.slurm, fleet), *_agent(node)]
    if name in permits:
        permit = permits[name]
        lines.append(f"permit: {permit.purpose} {permit.cycle}, since {story.stamp(permit.granted_at)}")
    lines += [f"wave {wave.id} ({wave.state}): {m.turn}{_colon(m.why or wave.why)}" for wave, m in turns]
    lines += story.history(node.report, events) or [story.line(event) for event in events[-_RECENT:]]
    sentence = _sentence(node, fleet, turns)
    return {"sentence": f"{sentence} ({jobs})" if jobs else sentence, "lines": lines, "held": _held(node, turns)}


def _held(node: Node, turns: Sequence[tuple[Wave, Member]]) -> str:
    """What the node is held with, by its agent or by a wave; empty where it is not."""
    if node.report and node.report.phase is not Phase.IN_SERVICE:
        return node.report.why if node.report.phase is Phase.HELD else ""
    return next((member.why for _, member in turns if member.turn is Turn.HELD), "")


def _sentence(node: Node, fleet: Fleet, turns: list[tuple[Wave, Member]]) -> str:
    report = node.report
    if report and report.phase is not Phase.IN_SERVICE:
        silent = "" if node.online else " when its agent was last heard"
        return f"{node.name} is in phase {report.phase}{silent}{_colon(report.why)}"
    for wave, member in turns:
        if member.turn in _SHOWN_TURNS:
            return f"{node.name} is {member.turn} in wave {wave.id}{_colon(member.why or wave.why)}"
    outage = fleet.outages.get(node.name)
    if outage:
        return f"{node.name} is out: {outage}"
    if report and report.verdict is Verdict.UNHEALTHY and report.why:
        return f"{node.name} is in service still: {report.why}"
    if node.slurm is None:
        return f"nothing is known of {node.name}: is that its name in Slurm?"
    if node.name in fleet.absent:
        return f"{node.name} is switched off by Slurm's power saving, or not there yet: {'+'.join(node.slurm.flags)}"
    return f"{node.name} is in service"


def _slurm(view: SlurmView | None, fleet: Fleet) -> str:
    if view is None or not view.known:
        return "Slurm: does not know the node"
    stale = "" if fleet.slurm_ok else f" (read {story.stamp(fleet.read_at)}; {fleet.slurm_why})"
    reason = f", reason {view.reason!r} by {view.reason_user or '?'}" if view.reason else ""
    return f"Slurm: {'+'.join(view.flags)}{reason}{stale}"


def _agent(node: Node) -> list[str]:
    if node.report is None:
        return [f"agent: {'online, without a report' if node.online else 'never heard of'}"]
    state = "online" if node.online else "silent"
    return [f"agent: {state} since {story.stamp(node.since)}, {_report(node.report)}", *_checks(node.report)]


def _report(report: NodeReport) -> str:
    cycle = f", cycle {report.cycle.id} ({report.cycle.recipe})" if report.cycle else ""
    return f"{report.phase}{_colon(report.why)}, {report.verdict}{cycle}"


def _checks(report: NodeReport) -> list[str]:
    failing = [f"check {failure.check} fails: {failure.message}" for failure in report.failing]
    return failing + [f"check {failure.check} is unknown: {failure.message}" for failure in report.unknown]


def _colon(why: str) -> str:
    return f": {why}" if why else ""
