# SPDX-License-Identifier: Apache-2.0
"""Findings over time become a verdict: pure folding and damping, no clock, no I/O.

UNKNOWN is not evidence: it neither counts as a failure nor as a pass, and it never changes a damped status. What fails
is told worst first: what drains before what only warns, then what has failed for longest, so that a new failure does
not push an older one out of the reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from refloat_agent.observation import HealthFacts
from refloat_checks.api import Finding, Result, When
from refloat_contract.messages import Failure
from refloat_contract.words import Status, Verdict

FOREVER_S: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Flapping:
    """What counts as flapping, and how long a check that flaps must pass; a limit of 0: nothing does."""

    limit: int = 0
    window_s: float = 3600.0
    pass_s: float = 300.0
    pass_most_s: float = 86400.0


@dataclass(frozen=True, slots=True)
class Gate:
    """How one check counts: after how many looks in a row its status is believed, and for what."""

    check: str
    fail_after: int = 1
    pass_after: int = 1
    gates: bool = True
    """Whether a failure drains the node (severity ``drain``); others are only reported."""
    when: When = When.ALWAYS
    sticky: bool = False
    """A failure that is believed stays, whatever later looks find."""
    flapping: Flapping = field(default_factory=Flapping)

    @property
    def is_owed(self) -> bool:
        """Whether the verdict waits for a look at it: it comes by itself on every node."""
        return self.when in {When.ALWAYS, When.BOOT}


@dataclass(frozen=True, slots=True)
class Track:
    """One check so far: its latest result, how often in a row it said the same, and what is believed."""

    result: Result
    believed: Status
    fails: int = 0
    passes: int = 0
    row_s: float = 0.0
    """When that row began: the first of the looks that said the same."""
    since_s: float = 0.0
    """Since when that which is believed was so."""
    trouble: str = ""
    """What the last look that failed said."""
    changes: tuple[float, ...] = ()
    """When it went from unhealthy to healthy or back, within the window of flapping."""
    must_pass_s: float = 0.0
    """For how long it must pass, because it flaps, before that is believed."""


Tracks = Mapping[str, Track]
NOTHING: Final[Tracks] = MappingProxyType({})


def fold(tracks: Tracks, gate: Gate, result: Result) -> Tracks:
    """The tracks with one more result."""
    before = tracks.get(gate.check) or Track(result, Status.UNKNOWN, since_s=result.at_s)
    after = replace(before, result=result)
    match result.finding.status:
        case Status.FAILED:
            after = _failed(after, gate, result.at_s)
        case Status.OK:
            after = _passed(after, gate, result.at_s)
        case Status.UNKNOWN if before.must_pass_s and before.believed is Status.FAILED:
            # A check that flaps must be seen to pass all the time.
            after = replace(after, passes=0)
    return MappingProxyType({**tracks, gate.check: after})


def forget(tracks: Tracks, check: str) -> Tracks:
    """The tracks without one check: as if it had never been looked at."""
    return MappingProxyType({name: track for name, track in tracks.items() if name != check})


def stuck(check: str, message: str, since_s: float) -> Track:
    """The track of a sticky failure that was believed earlier in this boot."""
    failed = Result(Finding(check, Status.FAILED, message), since_s, 0.0)
    return Track(failed, Status.FAILED, fails=1, row_s=since_s, since_s=since_s, trouble=message)


def _failed(track: Track, gate: Gate, at_s: float) -> Track:
    row_s = track.row_s if track.fails else at_s
    track = replace(track, fails=track.fails + 1, passes=0, row_s=row_s, trouble=track.result.finding.message)
    if track.fails < gate.fail_after or track.believed is Status.FAILED:
        return track
    changes = _recent(track, gate, at_s) if track.believed is Status.UNKNOWN else (*_recent(track, gate, at_s), at_s)
    flaps = gate.flapping.limit > 0 and len(changes) >= gate.flapping.limit
    must_pass_s = min(gate.flapping.pass_most_s, 2 * track.must_pass_s or gate.flapping.pass_s) if flaps else 0.0
    return replace(track, believed=Status.FAILED, since_s=row_s, changes=changes, must_pass_s=must_pass_s)


def _passed(track: Track, gate: Gate, at_s: float) -> Track:
    row_s = track.row_s if track.passes else at_s
    track = replace(track, fails=0, passes=track.passes + 1, row_s=row_s)
    if track.believed is Status.UNKNOWN:
        return replace(track, believed=Status.OK, since_s=row_s)
    if track.believed is Status.OK or not _is_proven(track, gate, at_s):
        return track
    return replace(track, believed=Status.OK, since_s=row_s, changes=(*_recent(track, gate, at_s), at_s))


def _is_proven(track: Track, gate: Gate, at_s: float) -> bool:
    return not gate.sticky and track.passes >= gate.pass_after and at_s - track.row_s >= track.must_pass_s


def _recent(track: Track, gate: Gate, at_s: float) -> tuple[float, ...]:
    return tuple(change_s for change_s in track.changes if at_s - change_s < gate.flapping.window_s)


def judge(tracks: Tracks, gates: Sequence[Gate]) -> HealthFacts:
    """The verdict, and what stands behind it; only checks whose severity drains take part."""
    gating = [gate for gate in gates if gate.gates]
    # An idle node's checks may never get their turn: nothing waits for them, but what they found counts.
    asked = [gate for gate in gating if gate.when is not When.IDLE]
    looked = [tracks[gate.check] for gate in asked if gate.check in tracks]
    failing = _believed_failing(tracks, gating)
    raw = [(tracks[gate.check].row_s, _latest(tracks[gate.check])) for gate in gating if _fails_now(tracks, gate)]
    return HealthFacts(
        verdict=_verdict(tracks, gating, failed=bool(failing)),
        failing=failing,
        unknown=tuple(_latest(track) for track in looked if track.result.finding.status is Status.UNKNOWN),
        oldest_s=min((t.result.at_s for t in looked), default=FOREVER_S) if len(looked) == len(asked) else None,
        raw_failing=_longest_first(raw),
        warning=_believed_failing(tracks, [gate for gate in gates if not gate.gates]),
        measures={check: track.result.finding.measures for check, track in tracks.items()},
    )


def _verdict(tracks: Tracks, gating: Sequence[Gate], *, failed: bool) -> Verdict:
    if failed:
        return Verdict.UNHEALTHY
    believed = [tracks[gate.check].believed if gate.check in tracks else None for gate in gating if gate.is_owed]
    return Verdict.HEALTHY if all(status is Status.OK for status in believed) else Verdict.UNKNOWN


def _believed_failing(tracks: Tracks, gates: Sequence[Gate]) -> tuple[Failure, ...]:
    counted = [gate for gate in gates if gate.when is not When.RESUME and gate.check in tracks]
    found = [(gate, tracks[gate.check]) for gate in counted if tracks[gate.check].believed is Status.FAILED]
    return _longest_first([(track.since_s, _failure(track, gate)) for gate, track in found])


def _fails_now(tracks: Tracks, gate: Gate) -> bool:
    return gate.check in tracks and tracks[gate.check].result.finding.status is Status.FAILED


def _longest_first(failures: Sequence[tuple[float, Failure]]) -> tuple[Failure, ...]:
    return tuple(failure for _, failure in sorted(failures, key=lambda since: since[0]))


def _latest(track: Track) -> Failure:
    return Failure(check=track.result.finding.check, message=track.result.finding.message)


def _failure(track: Track, gate: Gate) -> Failure:
    """What is wrong by a check that is believed to fail, and what else than passing it takes to be believed well.

    It says the same while the check passes but is not believed: the reason is not written anew for each look.
    """
    return Failure(check=gate.check, message=track.trouble + _what_it_takes(track, gate))


def told(track: Track, gate: Gate) -> str:
    """What to say of a check whose damped status is told: its latest message where that says the same."""
    return _failure(track, gate).message if track.believed is Status.FAILED else track.result.finding.message


def _what_it_takes(track: Track, gate: Gate) -> str:
    if gate.sticky:
        return " (sticks until the next boot or 'refloat check clear')"
    return f" (flaps: must pass for {track.must_pass_s:.0f} s)" if track.must_pass_s else ""
