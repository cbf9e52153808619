# SPDX-License-Identifier: Apache-2.0
"""File servers that the kernel says do not respond: a mount of theirs is not probed while that stands.

A probe would only hang, and leave one more helper behind that cannot be killed. The good line ends it, or a probe that
is tried now and then, for such a line may have been overwritten.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from refloat_checks.kernel_faults import Faults
from refloat_checks.kernel_follower import Follower, follower
from refloat_checks.kernel_rules import Rule
from refloat_checks.proc import Mount, mount_at

RETRY_S: Final = 180.0
"""How long after the line, or the last probe, one more probe is tried."""
RULES: Final = (
    # net/sunrpc/clnt.c: rpc_check_timeout; of a soft mount ("timed out") the caller hears.
    Rule(
        id="nfs-silent",
        contains="nfs: server",
        pattern=r"^nfs: server (?P<of>\S+) not responding, still trying",
        good=r"^nfs: server (?P<of>\S+) OK",
        clears="line",
        meaning="an NFS server does not answer",
    ),
    # lustre/ptlrpc/import.c; without its metadata server nothing of a filesystem answers, without others much does.
    Rule(
        id="lustre-silent",
        contains="onnection ",
        pattern=r"^Lustre: (?P<of>\S+-MDT[0-9a-f]{4})-mdc-\S+: Connection to .* was lost",
        good=r"^Lustre: (?P<of>\S+-MDT[0-9a-f]{4})-mdc-\S+: Connection restored to",
        clears="line",
        meaning="a Lustre metadata server is away",
    ),
)
_TARGET: Final = re.compile(r"-MDT[0-9a-f]{4}$")


@dataclass(frozen=True, slots=True)
class Silence:
    """A server, since when the kernel says that it does not respond, and when it said so last (CLOCK_MONOTONIC)."""

    server: str
    since_s: float
    line_s: float


@dataclass(frozen=True, slots=True)
class Tries:
    """When a mount was last probed, and last answered."""

    probed_s: float = float("-inf")
    answered_s: float = float("-inf")


NEVER: Final = Tries()


def may_probe(silence: Silence | None, tries: Tries, now_s: float) -> bool:
    """Whether to probe a mount: its server is not known to be silent, has answered since, or it is time to try."""
    if silence is None or tries.answered_s >= silence.line_s:
        return True
    return now_s - max(silence.since_s, tries.probed_s) >= RETRY_S


def server_of(mount: Mount) -> str:
    """The server of a mount as the kernel's lines name it, for Lustre the filesystem; empty for what has none."""
    place, colon, path = mount.source.rpartition(":/")
    if not colon:
        return ""
    if mount.fstype in {"nfs", "nfs4"}:
        return place.strip("[]")
    return path.partition("/")[0] if mount.fstype == "lustre" else ""


def silent(faults: Faults, before: Mapping[str, Silence]) -> dict[str, Silence]:
    """The servers that the kernel says are silent; one that was so before has been since then."""
    found: dict[str, Silence] = {}
    for (_, subject), fault in faults.items():
        server = _TARGET.sub("", subject)
        known = found.get(server) or before.get(server)
        line_s = max(fault.times[-1], found[server].line_s) if server in found else fault.times[-1]
        found[server] = Silence(server, known.since_s if known else line_s, line_s)
    return found


@dataclass(slots=True)
class SilentServers:
    """What the kernel log says of servers, and what their mounts answered. Something else reads the log on."""

    mounts: Callable[[], tuple[Mount, ...]]
    log: Follower = field(default_factory=lambda: follower(Path("/dev/kmsg"), RULES))
    clock: Callable[[], float] = time.monotonic
    _silent: dict[str, Silence] = field(default_factory=dict)
    _tries: dict[str, Tries] = field(default_factory=dict)

    def refusal(self, point: str) -> tuple[str, float] | None:
        """Why what is mounted there is not to be probed now, and for how long its server has been silent."""
        self._silent = silent(self.log.faults, self._silent)
        if not self._silent:
            self._tries.clear()
            return None
        # Only now, for the mount table of a big node is long.
        silence, now_s = self._of(point), self.clock()
        tries = self._tries.get(point, NEVER)
        if silence is None or may_probe(silence, tries, now_s):
            self._tries[point] = Tries(now_s, tries.answered_s)
            return None
        for_s = now_s - silence.since_s
        return f"not probed: the kernel says that server {silence.server} does not respond, for {for_s:.0f} s", for_s

    def answered(self, point: str) -> None:
        """What is mounted there has answered."""
        if self._silent:
            now_s = self.clock()
            self._tries[point] = Tries(now_s, now_s)

    def _of(self, point: str) -> Silence | None:
        mount = mount_at(self.mounts(), point)
        return self._silent.get(server_of(mount)) if mount is not None else None
