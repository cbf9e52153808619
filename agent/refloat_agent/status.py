# SPDX-License-Identifier: Apache-2.0
"""What the agent says of itself: the report for the coordinator, and the answers of the control socket."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from refloat_agent.config import AgentSettings
from refloat_agent.machine import Decision
from refloat_agent.observation import Observation
from refloat_contract.messages import CycleInfo, NodeReport
from refloat_contract.words import Phase
from refloat_service.control import Handler
from refloat_slurm.gateway import NodeView

if TYPE_CHECKING:
    from refloat_agent.daemon import Agent


def report_of(decision: Decision, seen: Observation, settings: AgentSettings, version: str) -> NodeReport:
    """The node's status, as the last decision left it."""
    state, cycle = decision.state, decision.state.cycle
    now = seen.wall_ns / 1e9
    return NodeReport(
        at=round(now, 3),
        boot_id=seen.boot_id,
        phase=cycle.phase if cycle else Phase.IN_SERVICE,
        # Rounded: the same moment, computed twice from two clocks, must not look like news.
        since=round(now - (seen.now_s - cycle.entered_s)) if cycle else 0.0,
        why=decision.why,
        verdict=seen.health.verdict,
        failing=seen.health.failing,
        unknown=seen.health.unknown,
        cycle=CycleInfo(
            id=cycle.id, recipe=cycle.recipe, wave=cycle.wave, image=cycle.image, started_at=cycle.started_at
        )
        if cycle
        else None,
        last_cycle=state.last,
        image=seen.image,
        version=version,
        observe_only=settings.mode == "observe",
    )


class Desk:
    """Answers `refloat` on the control socket of one node."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent

    def handlers(self) -> Mapping[str, Handler]:
        """The commands by name."""
        return {"status": self.status, "why": self.why, "checks": self.checks, "nhc": self.nhc}

    async def status(self, _: dict[str, Any]) -> dict[str, Any]:
        """Everything about this node."""
        agent, seen = self._agent, self._agent.seen
        return {
            "node": agent.settings.node,
            "report": self._report(),
            "slurm": _slurm(seen.slurm.view) if seen is not None and seen.slurm is not None else None,
            "permit": agent.bus.permit().granted,
            "checks": self._checks(),
            "counters": self._counters(),
        }

    async def why(self, _: dict[str, Any]) -> dict[str, Any]:
        """The one thing that is being waited for."""
        agent = self._agent
        report = self._report()
        phase = report["phase"] if report else "starting"
        sentence = agent.decision.why if agent.decision is not None else "the agent has not looked yet"
        lines = [f"phase {phase}"]
        if report and report.get("cycle"):
            lines.append(f"cycle {report['cycle']['id']}, recipe {report['cycle']['recipe']}")
        return {"sentence": sentence or f"nothing: the node is {phase}", "lines": lines}

    async def checks(self, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        """The checks' latest results; ``fresh`` runs them first."""
        if arguments.get("fresh"):
            await self._agent.check_now()
        return self._checks()

    async def nhc(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """What the lines of the nhc.conf found, for the `nhc` command, and whether this agent drains by itself."""
        agent, conf = self._agent, self._agent.nhc
        if conf is not None and (arguments.get("fresh") or conf.last is None):
            await agent.check_now()
        last = conf.last if conf is not None else None
        return {
            "node": agent.settings.node,
            "acts": agent.settings.mode == "act" and agent.settings.health.drain,
            "conf": str(conf.path) if conf is not None else None,
            "strict": agent.settings.nhc_compat == "strict",
            "age_s": agent.machine.clock.boottime_s() - last.at_s if last is not None else None,
            "findings": [finding.as_dict() for finding in last.result.findings] if last is not None else [],
            "variables": dict(last.result.variables) if last is not None else {},
        }

    def _report(self) -> dict[str, Any] | None:
        agent = self._agent
        if agent.decision is None or agent.seen is None:
            return None
        report = report_of(agent.decision, agent.seen, agent.settings, "")
        return report.model_dump(mode="json", exclude_none=True)

    def _checks(self) -> list[dict[str, Any]]:
        return [track.result.as_dict() for track in self._agent.health.tracks.values()]

    def _counters(self) -> dict[str, Any]:
        agent = self._agent
        return {
            "ticks": agent.loop.ticks if agent.loop is not None else 0,
            "passes": agent.health.passes,
            "events_waiting": agent.spool.waiting,
            "events_lost": agent.spool.lost,
            "broker_connected": agent.bus.connected,
            "ignored": dict(getattr(agent.bus, "ignored", {})),
            "stale_views": agent.slurm.stale_feed,
            "journal_error": agent.loop.journal_error if agent.loop is not None else "",
            **agent.usage(),
        }


def _slurm(view: NodeView) -> dict[str, Any]:
    return {
        "flags": sorted(view.flags),
        "reason": view.reason,
        "reason_user": view.reason_user,
        "reason_at": view.reason_at,
    }
