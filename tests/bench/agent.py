# SPDX-License-Identifier: Apache-2.0
"""What the agent costs, and how fast it is: from an event of the kernel to the order to drain, idle, and after hours.

Run by `make bench-agent`, as root. The node is this machine in private mount, pid, net and uts namespaces; the agent is
the real one, with every check at an interval of 60 s, so that only events make it fast; Slurm is simulated. A trial
ends when the agent hands the drain to the gateway. Beside it stands the same fault found by a pass every 60 s, as NHC
is started: its delay is drawn from the same moments, and costs nothing to find.
"""

import argparse
import contextlib
import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import benchnode
import psutil

GOALS: Final = {"p99_s": 1.0, "cpu_percent": 0.1, "rss_mb": 48.0, "rss_growth_mb": 2.0}
UNSHARE: Final = ("unshare", "--mount", "--pid", "--net", "--uts", "--fork", "--kill-child", "--mount-proc")
NHC_INTERVAL_S: Final = 60.0
PATIENCE_S: Final = 90.0
QUIET_S: Final = (1.0, 3.0)
IDLE: Final = "idle"
PASSES_OF_AN_HOUR: Final = 600
PLACE: Final = Path("build/bench/agent.json")


def main() -> None:
    """Measure, print the tables, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200, help="trials of each event (200)")
    parser.add_argument("--idle-s", type=float, default=300.0, help="seconds of doing nothing (300)")
    parser.add_argument("--only", action="append", choices=(*benchnode.FAULTS, IDLE), help="only these")
    parser.add_argument("--inner", choices=(*benchnode.FAULTS, IDLE), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inner is not None:
        json.dump(measure(options.inner, options.trials, options.idle_s), sys.stdout)
        return
    if os.geteuid() != 0:
        sys.exit("bench-agent makes namespaces, mounts and links: run it as root")
    wanted = options.only or [*benchnode.FAULTS, IDLE]
    found: dict[str, Any] = {}
    faults = [name for name in wanted if name != IDLE]
    # Each event has a node of its own, so they are tried beside each other; what an idle agent costs is measured alone.
    with ThreadPoolExecutor(len(benchnode.FAULTS)) as pool:
        figures = pool.map(lambda name: inner(name, options), faults)
        found["events"] = dict(zip(faults, figures, strict=True))
    if IDLE in wanted:
        found["idle"] = inner(IDLE, options)
    report(found)


def inner(what: str, options: argparse.Namespace) -> Any:
    """Measure one thing, in namespaces of its own."""
    argv = [*UNSHARE, sys.executable, __file__, "--inner", what]
    argv += ["--trials", str(options.trials), "--idle-s", str(options.idle_s)]
    return json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout)


def report(found: dict[str, Any]) -> None:
    """Print the tables and write build/bench/agent.json."""
    print(f"{'event -> drain ordered':28}{'trials':>8}{'p50 s':>9}{'p99 s':>9}{'NHC p50 s':>11}{'NHC p99 s':>11}  goal")
    for name, figures in found["events"].items():
        met = "met" if figures["p99_s"] < GOALS["p99_s"] else "MISSED"
        print(
            f"{name:28}{figures['trials']:>8}{figures['p50_s']:>9.3f}{figures['p99_s']:>9.3f}"
            f"{figures['nhc_p50_s']:>11.1f}{figures['nhc_p99_s']:>11.1f}  p99 < {GOALS['p99_s']:g} s: {met}"
        )
    print(f"\n{'idle agent':28}{'figure':>12}  goal")
    for key, value in found.get("idle", {}).items():
        goal = GOALS.get(key)
        met = "" if goal is None else f"< {goal:g}: {'met' if value < goal else 'MISSED'}"
        print(f"{key:28}{value:>12.3f}  {met}")
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(PLACE.read_text()) if PLACE.exists() else {}
    PLACE.write_text(json.dumps({**before, **found}, indent=2) + "\n")


def measure(what: str, trials: int, idle_s: float) -> dict[str, float]:
    """Measure one thing; in its namespaces."""
    with tempfile.TemporaryDirectory(prefix="bench-agent-", ignore_cleanup_errors=True) as place:
        ground = benchnode.Ground(Path(place))
        ground.prepare()
        with agent(ground) as running:
            if what == IDLE:
                return idle(running, idle_s)
            return trial(running, next(fault for fault in ground.faults() if fault.name == what), trials)


@dataclass(slots=True)
class Running:
    """The agent under test, and what it has said."""

    process: subprocess.Popen[str]

    def until(self, kind: str) -> float:
        """Wait until the agent says this; the moment (CLOCK_MONOTONIC) at which it happened."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if said["kind"] == kind:
                return float(said["at_s"])
        raise SystemExit("bench-agent: the agent ended; its log is above")

    def ask(self, order: str) -> float:
        """Give an order, and wait until it is done."""
        assert self.process.stdin is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        return self.until(order)


@contextlib.contextmanager
def agent(ground: benchnode.Ground) -> Iterator[Running]:
    """The agent, in a process of its own, ready and healthy."""
    argv = [sys.executable, benchnode.__file__ or "", str(ground.config())]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    running = Running(process)
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(int(PATIENCE_S))
    running.until("healthy")
    try:
        yield running
    finally:
        signal.alarm(0)
        process.terminate()
        process.wait()


def _give_up(*_: object) -> None:
    raise SystemExit(f"bench-agent: nothing happened for {PATIENCE_S:g} s; the agent's log is above")


def trial(running: Running, fault: benchnode.Fault, trials: int) -> dict[str, float]:
    """Break it, wait for the drain, mend it, wait until the node is back; so many times."""
    chance = random.Random(fault.name)  # noqa: S311 - moments that can be repeated
    delays, nhc = [], []
    for number in range(trials):
        signal.alarm(int(PATIENCE_S))
        time.sleep(chance.uniform(*QUIET_S))
        began_s = time.monotonic()
        fault.breaks()
        delays.append(running.until("drained") - began_s)
        nhc.append(chance.uniform(0.0, NHC_INTERVAL_S))
        fault.mends()
        running.until("back")
        _progress(f"{fault.name}: {number + 1} of {trials}")
    _progress("")
    return {
        "trials": trials,
        "p50_s": round(statistics.median(delays), 4),
        "p99_s": round(_quantile(delays, 0.99), 4),
        "max_s": round(max(delays), 4),
        "nhc_p50_s": round(statistics.median(nhc), 2),
        "nhc_p99_s": round(_quantile(nhc, 0.99), 2),
    }


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def idle(running: Running, seconds: float) -> dict[str, float]:
    """Cost while nothing happens, and what stays of the passes of an hour."""
    process = psutil.Process(running.process.pid)
    signal.alarm(0)
    running.ask("settle")
    began_s, before, woken = time.monotonic(), _cpu_s(process), _wakeups(process)
    _until(began_s + seconds, lambda left: _progress(f"idle: {left:.0f} s to go"))
    took_s = time.monotonic() - began_s
    cpu = 100 * (_cpu_s(process) - before) / took_s
    wakeups = (_wakeups(process) - woken) / took_s
    rss_mb = _rss_mb(process)
    signal.alarm(int(10 * PATIENCE_S))
    running.ask("passes 50")
    warm_mb = _rss_mb(process)
    running.ask(f"passes {PASSES_OF_AN_HOUR}")
    return {
        "cpu_percent": round(cpu, 4),
        "rss_mb": round(rss_mb, 2),
        "rss_growth_mb": round(_rss_mb(process) - warm_mb, 3),
        "wakeups_per_s": round(wakeups, 3),
        "helpers": float(len(process.children(recursive=True))),
        "seconds": round(took_s, 1),
    }


def _until(moment_s: float, tell: Callable[[float], None]) -> None:
    while (left_s := moment_s - time.monotonic()) > 0:
        tell(left_s)
        time.sleep(min(2.0, left_s))
    _progress("")


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _cpu_s(process: psutil.Process) -> float:
    return sum(times.user + times.system for times in (each.cpu_times() for each in _family(process)))


def _rss_mb(process: psutil.Process) -> float:
    """Memory of the agent itself, as systemd and ps show it."""
    return float(process.memory_info().rss) / 1e6


def _wakeups(process: psutil.Process) -> int:
    return sum(each.num_ctx_switches().voluntary for each in _family(process))


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


if __name__ == "__main__":
    main()
