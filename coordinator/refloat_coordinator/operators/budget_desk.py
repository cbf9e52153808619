# SPDX-License-Identifier: Apache-2.0
"""What the command line may ask about limits, who uses them, and incidents; and that an incident be closed."""

from collections.abc import Mapping
from typing import Any

from refloat_contract.errors import BadMessage
from refloat_contract.words import Purpose
from refloat_coordinator.clock import Clock
from refloat_coordinator.loop import Loop
from refloat_coordinator.permits.breaker import Incident
from refloat_coordinator.permits.budget import Room
from refloat_coordinator.permits.leaves import LEAVE_S
from refloat_coordinator.permits.permit import Permit
from refloat_service import callers
from refloat_service.control import Handler

Arguments = Mapping[str, Any]


class BudgetDesk:
    """Answers questions about the budget; ``troubles`` are the sources of groups that could not be read, and why."""

    def __init__(self, loop: Loop, clock: Clock, troubles: Mapping[str, str] | None = None) -> None:
        self._loop = loop
        self._clock = clock
        self._troubles = {} if troubles is None else troubles

    def handlers(self) -> dict[str, Handler]:
        """All commands, by their names."""
        return {"budget": self.budget, "breaker_list": self.breaker_list, "breaker_close": self.breaker_close}

    async def budget(self, _arguments: Arguments) -> dict[str, Any]:
        """Every limit: how many nodes it allows, and which count, each with why and since when."""
        loop, now = self._loop, self._clock.now()
        rooms = loop.rooms(now)
        limits = self._uses(rooms.site, "out")
        for wave in loop.waves:
            limits += self._uses(rooms.of_wave(wave), "out")
        limits += self._uses(rooms.health, "drained by checks")
        if loop.budget.boot.binds:
            limits += self._uses(rooms.berths.room, "booting")
        return {
            "limits": [*limits, self._leaves(now)],
            "one_at_a_time": loop.budget.boot.one_at_a_time,
            "incidents": [self._told(one) for one in loop.breaker.open],
            "warnings": [*loop.budget.warnings, *(f"{what}: {why}" for what, why in self._troubles.items())],
        }

    async def breaker_list(self, _arguments: Arguments) -> list[dict[str, Any]]:
        """All incidents that are known, oldest first."""
        return [self._told(one) for one in self._loop.breaker.incidents.values()]

    async def breaker_close(self, arguments: Arguments) -> dict[str, Any]:
        """Close an incident, by its id or its check."""
        name = arguments.get("id")
        if not isinstance(name, str) or not name:
            raise BadMessage("id is missing, or no text")
        return self._told(await self._loop.close_incident(name, await callers.name() or "somebody"))

    def _told(self, incident: Incident) -> dict[str, Any]:
        failing = self._loop.breaker.failing.get(incident.check, {}) if incident.is_open else {}
        return {**incident.model_dump(exclude={"v", "spared"}), "failing": sorted(failing)}

    def _uses(self, room: Room, word: str) -> list[dict[str, Any]]:
        return [
            {
                "limit": limit.name,
                "allowed": allowed,
                "used": len(nodes),
                "word": word,
                "holders": [self._holder(name, why) for name, why in sorted(nodes.items())],
            }
            for limit, allowed, nodes in room.uses
        ]

    def _holder(self, name: str, why: str) -> dict[str, Any]:
        permit, view = self._loop.permits.get(name), self._loop.fleet.node(name).slurm
        since = permit.granted_at if permit else float(view.reason_at) if view else 0.0
        return {"node": name, "why": _permit(permit) if permit else why, "since": since}

    def _leaves(self, now: float) -> dict[str, Any]:
        until = {name: at for name, at in self._loop.leaves.until.items() if now < at}
        holders = [
            {"node": name, "why": "checks that want an idle node", "since": at - LEAVE_S}
            for name, at in sorted(until.items())
        ]
        allowed = self._loop.leaves.most
        return {"limit": "idle checks", "allowed": allowed, "used": len(until), "word": "at it", "holders": holders}


def _permit(permit: Permit) -> str:
    what = permit.recipe or "cycle" if permit.purpose is Purpose.CYCLE else "health drain"
    cause = f" for {permit.cause}" if permit.cause else ""
    wave = f", wave {permit.wave}" if permit.wave else ""
    return f"permit: {what}{cause}{wave}"
