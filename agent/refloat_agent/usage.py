# SPDX-License-Identifier: Apache-2.0
"""What the agent itself costs its node: CPU, memory, and how often it was woken."""

import contextlib
import resource
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

WINDOW_S: Final = 300.0
_EVERY_S: Final = 30.0


class Spent(NamedTuple):
    """What was spent up to a moment."""

    at_s: float
    cpu_s: float
    wakeups: int


def spent(at_s: float) -> Spent:
    """Ask the kernel. A wake-up is what it counts as a voluntary switch: some thread of ours had waited."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Spent(at_s, used.ru_utime + used.ru_stime, used.ru_nvcsw)


class Used(NamedTuple):
    """What this process uses; and our helpers and commands: memory of those that live, CPU of those that ended, too."""

    rss_bytes: int
    threads: int
    helpers_rss_bytes: int
    helpers_cpu_s: float


def used_now() -> Used:
    """Ask the kernel, which counts a child's CPU time with ours once it has ended."""
    import psutil  # noqa: PLC0415 - nearly 1 MB, for whoever asks

    process = psutil.Process()
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    rss_bytes, cpu_s = 0, ended.ru_utime + ended.ru_stime
    for child in process.children():
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            rss_bytes += child.memory_info().rss
            cpu_s += sum(child.cpu_times()[:2])
    return Used(process.memory_info().rss, process.num_threads(), rss_bytes, cpu_s)


@dataclass(slots=True)
class Usage:
    """Usage of this process since it began, and by the second over the last minutes."""

    clock: Callable[[], float]
    spent: Callable[[float], Spent] = spent
    _noted: deque[Spent] = field(default_factory=deque)

    def note(self) -> None:
        """Remember what was spent by now; for the rates. May be called as often as one likes."""
        now_s = self.clock()
        if not self._noted or now_s - self._noted[-1].at_s >= _EVERY_S:
            self._noted.append(self.spent(now_s))
        while now_s - self._noted[0].at_s > WINDOW_S and len(self._noted) > 1:
            self._noted.popleft()

    def as_dict(self) -> dict[str, float | int]:
        """What status says; the keys are part of the command line's promise."""
        self.note()
        now, then = self.spent(self.clock()), self._noted[0]
        for_s = max(1e-3, now.at_s - then.at_s)
        used = used_now()
        return {
            "cpu_s": round(now.cpu_s, 3),
            "cpu_percent": round(100 * (now.cpu_s - then.cpu_s) / for_s, 3),
            "wakeups_per_s": round((now.wakeups - then.wakeups) / for_s, 3),
            "rates_over_s": round(for_s, 1),
            "rss_bytes": used.rss_bytes,
            "threads": used.threads,
            "helpers_rss_bytes": used.helpers_rss_bytes,
            "helpers_cpu_s": round(used.helpers_cpu_s, 3),
        }
