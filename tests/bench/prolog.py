# SPDX-License-Identifier: Apache-2.0
"""What `refloat check --profile prolog` costs before a job: the agent's answer, and the whole process.

Part of `make bench-agent`; alone: `prolog.py`. The agent is the real one with twenty checks, all looked at lately: it
answers from what it knows, as it does before almost every job. Beside it stand the same question after a fresh look
(`--max-age 0`), and a Python that does nothing, which no command written in it can undercut.
"""

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from refloat_cli import agent_line

ASKED: Final = 300
PROCESSES: Final = 40
CHECKS: Final = 20
GOAL_MS: Final = 15.0
READY_S: Final = 30.0
PLACE: Final = Path("build/bench/agent.json")
PYTHON: Final = Path(sys.executable)


def main() -> None:
    """Measure, print, and write the figures beside the others of bench-agent."""
    with tempfile.TemporaryDirectory(prefix="bench-prolog-") as folder:
        place = Path(folder)
        os.environ["REFLOAT_AGENT_SOCKET"] = str(place / "agent.sock")
        with running(config(place)):
            found = measure()
    report(found)


def measure() -> dict[str, float]:
    """The answer, fresh and from memory; the process, and an empty one."""
    command = [str(PYTHON.with_name("refloat")), "check", "--profile", "prolog"]
    answer = times_ms(lambda: ask(None))
    fresh = times_ms(lambda: ask(1e-6))
    process, cpu = processes_ms(command)
    empty, empty_cpu = processes_ms([str(PYTHON), "-I", "-c", ""])
    return {
        "answer_p50_ms": statistics.median(answer),
        "answer_p99_ms": statistics.quantiles(answer, n=100)[98],
        "fresh_answer_p50_ms": statistics.median(fresh),
        "process_p50_ms": process,
        "process_cpu_ms": cpu,
        "empty_python_p50_ms": empty,
        "empty_python_cpu_ms": empty_cpu,
    }


def ask(max_age_s: float | None) -> None:
    """Ask as the command does; every check must be good, for a wrong answer costs nothing."""
    said = agent_line.ask("profile", {"profile": "prolog", "max_age_s": max_age_s}, 30.0)
    if said is None or said["bad"] or said["good"] != CHECKS:
        raise SystemExit(f"prolog.py: a wrong answer: {said}")


def times_ms(act: Callable[[], None]) -> list[float]:
    """How long each of many takes."""
    taken = []
    for _ in range(ASKED):
        began = time.perf_counter()
        act()
        taken.append(1000 * (time.perf_counter() - began))
    return taken


def processes_ms(argv: Sequence[str]) -> tuple[float, float]:
    """The median time of a process from its start to its end, and its mean CPU time."""
    taken, before = [], cpu_s()
    for _ in range(PROCESSES):
        began = time.perf_counter()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken), 1000 * (cpu_s() - before) / PROCESSES


def cpu_s() -> float:
    """What the children that have ended have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(found: Mapping[str, float]) -> None:
    """Print what was measured, and add it to build/bench/agent.json."""
    met = "met" if found["answer_p50_ms"] <= GOAL_MS else "MISSED"
    print(f"\n{f'prolog, {CHECKS} checks':40}{'ms':>8}  goal: answer_p50_ms <= {GOAL_MS:g}: {met}")
    for key, value in found.items():
        print(f"  {key:38}{value:>8.2f}")
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    before: dict[str, Any] = json.loads(PLACE.read_text()) if PLACE.exists() else {}
    rounded = {key: round(value, 3) for key, value in found.items()}
    PLACE.write_text(json.dumps({**before, "prolog": rounded}, indent=2) + "\n")


def config(place: Path) -> Path:
    """Checks that are looked at once a minute; half of them by a helper process."""
    checks = [f'[[check]]\nname = "file{n}"\ntype = "file"\npath = "{place}"\n' for n in range(CHECKS // 2)]
    checks += [
        f'[[check]]\nname = "process{n}"\ntype = "process"\ncontains = "prolog.py"\nmax_count = {n + 100}\n'
        for n in range(CHECKS - CHECKS // 2)
    ]
    head = f'node = "n1"\nstate_dir = "{place}/state"\nsocket = "{place}/agent.sock"\n[log]\nlevel = "error"\n'
    path = place / "agent.toml"
    path.write_text(head + "\n".join(checks))
    return path


@contextlib.contextmanager
def running(path: Path) -> Iterator[None]:
    """The agent, ready, all of whose checks have been looked at."""
    agent = subprocess.Popen([str(PYTHON.with_name("refloat-agent")), "--config", str(path)])
    try:
        until = time.monotonic() + READY_S
        while (said := agent_line.ask("profile", {"profile": "prolog"}, 30.0)) is None or said["bad"]:
            if time.monotonic() > until or agent.poll() is not None:
                raise SystemExit(f"prolog.py: no agent, or a bad one: {said}")
            time.sleep(0.1)
        yield
    finally:
        agent.terminate()
        agent.wait()


if __name__ == "__main__":
    main()
