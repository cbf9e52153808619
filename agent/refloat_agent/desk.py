# SPDX-License-Identifier: Apache-2.0
"""The desk: what `refloat` may ask of the agent of one node over its control socket."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from refloat_agent.report import VERSION, report_of
from refloat_checks.api import Profile
from refloat_contract import story
from refloat_contract.errors import BadMessage, RefloatError, Refused, Transient
from refloat_contract.messages import NodeReport
from refloat_contract.reasons import one_line
from refloat_contract.words import Phase, Status
from refloat_service.control import Handler
from refloat_slurm import states
from refloat_slurm.gateway import NodeView

if TYPE_CHECKING:
    from refloat_agent.daemon import Agent

_PROFILE_S: Final = 30.0
_MAX_NAME: Final = 64
ACTING: Final = frozenset({"gate", "check_clear", "check_switch"})
"""The commands that do more than tell: the gate drains a node whose boot takes too long."""


class Desk:
    """Answers `refloat` on the control socket of one node."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent

    def handlers(self) -> Mapping[str, Handler]:
        """The commands by name."""
        return {
            "status": self.status,
            "why": self.why,
            "plan": self.plan,
            "checks": self.checks,
            "nhc": self.nhc,
            "profile": self.profile,
            "gate": self.gate,
            "check_clear": self.check_clear,
            "check_switch": self.check_switch,
        }

    async def status(self, _: dict[str, Any]) -> dict[str, Any]:
        """Everything about this node."""
        agent, seen = self._agent, self._agent.seen
        return {
            "node": agent.settings.node,
            "report": self._report(),
            "slurm": _slurm(seen.slurm.view) if seen is not None and seen.slurm is not None else None,
            "permit": agent.bus.permit().granted,
            "checks": self._checks(),
            "config_error": agent.checklist.error,
            "events": agent.watch.state(),
            "helpers": asdict(agent.probes.state()),
            "counters": self._counters(),
        }

    async def why(self, _: dict[str, Any]) -> dict[str, Any]:
        """The one thing that is being waited for."""
        agent = self._agent
        report = self._report()
        phase = report["phase"] if report else "starting"
        sentence = agent.decision.why if agent.decision is not None else "the agent has not looked yet"
        if agent.loop is None or report is None:
            return {"sentence": sentence, "lines": [f"phase {phase}"]}
        known, now = NodeReport.model_validate(report), agent.machine.clock.wall_ns() / 1e9
        if jobs := await self._jobs(known, now):
            sentence = f"{sentence} ({jobs})"
        lines = [f"phase {phase}", *story.wait(known, now), *story.history(known, tuple(agent.loop.told))]
        held = known.why if known.phase is Phase.HELD else ""
        return {"sentence": sentence or f"nothing: the node is {phase}", "lines": lines, "held": held}

    async def _jobs(self, report: NodeReport, now: float) -> str:
        """The jobs that a draining node waits for: asked of Slurm only when somebody wants to know."""
        seen = self._agent.seen
        busy = seen is not None and seen.slurm is not None and states.is_busy(seen.slurm.view)
        if report.phase is not Phase.DRAINING or not busy:
            return ""
        try:
            found = await self._agent.slurm.jobs()
        except RefloatError as error:
            return f"its jobs could not be listed: {error}"
        return story.jobs([(job.id, job.user, job.ends_at) for job in found], now)

    async def plan(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """What a recipe would do on this node now."""
        from refloat_agent.rehearsal import rehearse  # noqa: PLC0415 - seldom asked for

        return await rehearse(self._agent, str(arguments.get("recipe", "reboot")))

    async def checks(self, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        """The checks' latest results; ``fresh`` runs them first."""
        if arguments.get("fresh"):
            await self._agent.check_now()
        return self._checks()

    async def profile(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """What a profile's checks found, after a look at those whose last is older than ``max_age_s``.

        ``good`` counts those that are OK; the others are told in full.
        """
        profile, max_age_s = _profile(arguments.get("profile")), arguments.get("max_age_s")
        try:
            async with asyncio.timeout(_PROFILE_S):
                found = await self._agent.health.profile(profile, max_age_s)
        except TimeoutError as error:
            raise Transient(f"the checks did not end within {_PROFILE_S:g} s") from error
        bad = [each for each in found if each["status"] != Status.OK]
        return {"node": self._agent.settings.node, "good": len(found) - len(bad), "bad": bad}

    async def gate(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Whether slurmd may start, for the boot gate, which has waited for ``waited_s``."""
        waited_s = arguments.get("waited_s")
        if not isinstance(waited_s, int | float):
            raise BadMessage("the argument 'waited_s' is missing")
        answer = await self._agent.may_slurmd_start(waited_s)
        return {"opens": answer.opens, "why": answer.why}

    async def check_clear(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Take a failure that sticks away; who does it is recorded."""
        check, by = self._of_this_node(arguments)
        return {"told": self._agent.health.clear(check, by)}

    async def check_switch(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Switch a check off, or on again; who does it is recorded."""
        check, by = self._of_this_node(arguments)
        return {"told": self._agent.health.switch(check, by, on=bool(arguments.get("on")))}

    def _of_this_node(self, arguments: dict[str, Any]) -> tuple[str, str]:
        node, check = arguments.get("node"), arguments.get("check")
        if node != self._agent.settings.node:
            raise Refused(f"this is the agent of {self._agent.settings.node}, not of {node}")
        if not isinstance(check, str):
            raise BadMessage("the argument 'check' is missing")
        # It stands in a log and in an event: one line, of bounded length.
        return check, one_line(str(arguments.get("by") or "somebody"), _MAX_NAME)

    async def nhc(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """What the lines of the nhc.conf found, for the `nhc` command, and whether this agent drains by itself."""
        agent, conf = self._agent, self._agent.checklist.nhc
        if conf is not None and (arguments.get("fresh") or conf.last is None):
            await agent.check_now()
        last = conf.last if conf is not None else None
        return {
            "node": agent.settings.node,
            "acts": agent.settings.mode == "act" and agent.settings.health.drain,
            "conf": str(conf.path) if conf is not None else None,
            "strict": agent.checklist.settings.nhc_compat == "strict",
            "age_s": agent.machine.clock.boottime_s() - last.at_s if last is not None else None,
            "findings": [finding.as_dict() for finding in last.result.findings] if last is not None else [],
            "variables": dict(last.result.variables) if last is not None else {},
        }

    def _report(self) -> dict[str, Any] | None:
        agent = self._agent
        if agent.decision is None or agent.seen is None:
            return None
        report = report_of(agent.decision, agent.seen, agent.settings, VERSION, agent.policy.recipes)
        report = report.model_copy(update={"runs": agent.runs})
        return report.model_dump(mode="json", exclude_none=True)

    def _checks(self) -> list[dict[str, Any]]:
        return self._agent.health.describe()

    def _counters(self) -> dict[str, Any]:
        agent = self._agent
        return {
            "ticks": agent.loop.ticks if agent.loop is not None else 0,
            "passes": agent.health.passes,
            "idle_checks_waiting": dict(agent.health.idle.waiting) if agent.health.idle is not None else {},
            "idle_checks_stopped": agent.health.idle.stopped if agent.health.idle is not None else 0,
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


def _profile(word: object) -> Profile:
    try:
        return Profile(str(word))
    except ValueError:
        raise BadMessage(f"no profile {word!r} (there are: {', '.join(Profile)})") from None
