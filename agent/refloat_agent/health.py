# SPDX-License-Identifier: Apache-2.0
"""Findings over time become a verdict: pure folding and damping, no clock, no I/O.

UNKNOWN is not evidence: it neither counts as a failure nor as a pass, and it never changes a damped status.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from refloat_agent.observation import HealthFacts
from refloat_checks.api import Result
from refloat_contract.messages import Failure
from refloat_contract.words import Status, Verdict

FOREVER_S: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Gate:
    """How one check counts: after how many looks in a row its status is believed, and for what."""

    check: str
    fail_after: int = 1
    pass_after: int = 1
    gates: bool = True
    """Whether a failure drains the node (severity ``drain``); others are only reported."""
    always: bool = True
    """Whether it is looked at all the time; others only before a resume."""


@dataclass(frozen=True, slots=True)
class Track:
    """One check so far: its latest result, how often in a row it said the same, and what is believed."""

    result: Result
    believed: Status
    fails: int = 0
    passes: int = 0


Tracks = Mapping[str, Track]
NOTHING: Final[Tracks] = MappingProxyType({})


def fold(tracks: Tracks, gate: Gate, result: Result) -> Tracks:
    """The tracks with one more result."""
    before = tracks.get(gate.check) or Track(result, Status.UNKNOWN)
    after = replace(before, result=result)
    if result.finding.status is Status.FAILED:
        after = replace(after, fails=before.fails + 1, passes=0)
        if after.fails >= gate.fail_after:
            after = replace(after, believed=Status.FAILED)
    elif result.finding.status is Status.OK:
        after = replace(after, fails=0, passes=before.passes + 1)
        if before.believed is Status.UNKNOWN or after.passes >= gate.pass_after:
            after = replace(after, believed=Status.OK)
    return MappingProxyType({**tracks, gate.check: after})


def judge(tracks: Tracks, gates: Sequence[Gate]) -> HealthFacts:
    """The verdict, and what stands behind it; only checks whose severity drains take part."""
    gating = [gate for gate in gates if gate.gates]
    known = [(gate, tracks[gate.check]) for gate in gating if gate.check in tracks]
    failing = tuple(_failure(track) for gate, track in known if gate.always and track.believed is Status.FAILED)
    return HealthFacts(
        verdict=_verdict(tracks, gating, failed=bool(failing)),
        failing=failing,
        unknown=tuple(_failure(track) for _, track in known if track.result.finding.status is Status.UNKNOWN),
        oldest_s=min((t.result.at_s for _, t in known), default=FOREVER_S) if len(known) == len(gating) else None,
        raw_failing=tuple(_failure(track) for _, track in known if track.result.finding.status is Status.FAILED),
    )


def _verdict(tracks: Tracks, gating: Sequence[Gate], *, failed: bool) -> Verdict:
    if failed:
        return Verdict.UNHEALTHY
    believed = [tracks[gate.check].believed if gate.check in tracks else None for gate in gating if gate.always]
    return Verdict.HEALTHY if all(status is Status.OK for status in believed) else Verdict.UNKNOWN


def _failure(track: Track) -> Failure:
    return Failure(check=track.result.finding.check, message=track.result.finding.message)
