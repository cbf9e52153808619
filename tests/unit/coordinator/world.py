# SPDX-License-Identifier: Apache-2.0
"""Builders of facts for the coordinator's tests, and a clock that stands still."""

import asyncio
from collections.abc import Awaitable, Callable

from refloat_contract.messages import CycleInfo, Event, LastCycle, NodeReport, NodeStatus, Request, SlurmView, WaveSpec
from refloat_contract.words import EventKind, Outcome, Phase, Purpose, RequestKind, Verdict
from refloat_coordinator import fleet as fleets
from refloat_coordinator.fleet import Fact, Fleet, Heard, Read, Told
from refloat_coordinator.waves import wave as wave_rules
from refloat_coordinator.waves.wave import Wave

T0 = 1_800_000_000.0
WAVE = "w1"
TRIGGER = f"reboot wave={WAVE}"


class FakeClock:
    """A clock that moves when it is told to; sleeping moves it."""

    def __init__(self, now: float = T0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


async def eventually(check: Callable[[], bool | Awaitable[bool]], within_s: float = 5.0) -> None:
    """Wait until it is so; a test that waits in vain fails."""
    async with asyncio.timeout(within_s):
        while True:
            answer = check()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.002)


def view(node: str = "n1", state: str = "IDLE", reason: str = "", **facts: object) -> SlurmView:
    given = {"boot_time": 1000, "slurmd_start_time": 1010} | facts
    return SlurmView.model_validate(
        {"node": node, "epoch": 1, "seq": 1, "flags": state.split("+"), "reason": reason, **given}
    )


def cycle(cycle_id: str = "c1", wave: str = WAVE) -> CycleInfo:
    return CycleInfo(id=cycle_id, recipe="reboot", wave=wave)


def ended(outcome: Outcome = Outcome.DONE, cycle_id: str = "c1", wave: str = WAVE, why: str = "") -> LastCycle:
    return LastCycle(id=cycle_id, outcome=outcome, wave=wave, boot_id="boot-b", why=why)


def status(
    node: str = "n1",
    phase: Phase = Phase.IN_SERVICE,
    *,
    online: bool = True,
    at: float = 1.0,
    now: CycleInfo | None = None,
    last: LastCycle | None = None,
    image: str = "",
    boot_id: str = "boot-a",
    why: str = "",
    verdict: Verdict = Verdict.HEALTHY,
    observe_only: bool = False,
) -> NodeStatus:
    report = NodeReport(
        at=at,
        boot_id=boot_id,
        phase=phase,
        since=at,
        why=why,
        verdict=verdict,
        cycle=now,
        last_cycle=last,
        image=image,
        observe_only=observe_only,
    )
    return NodeStatus(node=node, online=online, report=report)


def will(node: str = "n1") -> NodeStatus:
    return NodeStatus(node=node, online=False)


def event(
    event_id: str = "e1",
    node: str = "n1",
    kind: EventKind = EventKind.RESUMED,
    *,
    at_ns: int = int(T0 * 1e9),
    wave: str = WAVE,
    cycle_id: str = "c1",
    message: str = "Host ready for production",
) -> Event:
    return Event(
        id=event_id,
        node=node,
        at_ns=at_ns,
        kind=kind,
        title="Rolling Reboot",
        message=message,
        wave=wave,
        cycle=cycle_id,
        recipe="reboot",
        boot_id="boot-b",
    )


def request(
    node: str = "n1",
    cycle_id: str = "c1",
    *,
    purpose: Purpose = Purpose.CYCLE,
    kind: RequestKind = RequestKind.PERMIT,
    wave: str = "",
    request_id: str = "r1",
) -> Request:
    return Request(id=request_id, node=node, kind=kind, purpose=purpose, cycle=cycle_id, wave=wave)


def fleet_of(*facts: Fact | SlurmView | NodeStatus | Event, now: float = T0, base: Fleet | None = None) -> Fleet:
    """A fleet after a read of these views, and these messages."""
    views = tuple(fact for fact in facts if isinstance(fact, SlurmView))
    rest: list[Fact] = [Read(now, views)]
    for fact in facts:
        if isinstance(fact, NodeStatus):
            rest.append(Heard(fact))
        elif isinstance(fact, Event):
            rest.append(Told(fact))
        elif not isinstance(fact, SlurmView):
            rest.append(fact)
    return fleets.fold(base or Fleet(), rest, now)


def idle_fleet(*names: str) -> Fleet:
    """Nodes in service, with agents online."""
    return fleet_of(*(view(name) for name in names), *(status(name) for name in names))


def wave_over(*names: str, **spec: object) -> Wave:
    return wave_rules.create(WAVE, WaveSpec.model_validate({"nodes": ",".join(names), **spec}), names, T0)
