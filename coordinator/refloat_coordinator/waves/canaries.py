# SPDX-License-Identifier: Apache-2.0
"""The canaries of a wave: who they are, and whether they are sound, so that the rest may follow; pure."""

import itertools
from dataclasses import dataclass

from refloat_contract.words import Turn, Verdict
from refloat_coordinator import outage
from refloat_coordinator.fleet import Fleet
from refloat_coordinator.waves.member import Member
from refloat_coordinator.waves.wave import Wave
from refloat_slurm import states


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a canary that is done is not sound. ``is_certain``: it is bad; else nothing good is known of it now."""

    node: str
    why: str
    is_certain: bool


def of(wave: Wave) -> tuple[Member, ...]:
    """The first nodes of the wave; one that is skipped is followed by the next."""
    return tuple(itertools.islice((m for m in wave.members if m.turn is not Turn.SKIPPED), wave.spec.canary))


def doubts(wave: Wave, fleet: Fleet) -> tuple[Doubt, ...]:
    """What keeps the canaries that are done from being sound, what is certain first."""
    found = [doubt for member in of(wave) if member.turn is Turn.DONE and (doubt := _doubt(member, fleet))]
    return tuple(sorted(found, key=lambda doubt: not doubt.is_certain))


def _doubt(member: Member, fleet: Fleet) -> Doubt | None:
    node = fleet.node(member.node)
    report, view = node.report, node.slurm
    if report and node.online and report.verdict is Verdict.UNHEALTHY:
        failing = ", ".join(f"{failure.check}: {failure.message}" for failure in report.failing)
        return Doubt(member.node, f"unhealthy{f' ({failing})' if failing else ''}", is_certain=True)
    if view is None or fleet.read_at <= member.since:
        return Doubt(member.node, "Slurm's node table is still to be read", is_certain=False)
    flags = frozenset(view.flags)
    if states.is_drain_set(flags) or outage.is_down_for_sure(view):
        return Doubt(member.node, outage.cause(view, fleet.dialect) or f"drained: {view.reason}", is_certain=True)
    if not outage.is_in_service(view):
        return Doubt(member.node, outage.cause(view, fleet.dialect) or "not in service", is_certain=False)
    if report is None or not node.online:
        return Doubt(member.node, "its agent is silent", is_certain=False)
    if report.verdict is not Verdict.HEALTHY:
        return Doubt(member.node, "its health is not known yet", is_certain=False)
    return None
