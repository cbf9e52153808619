# SPDX-License-Identifier: Apache-2.0
"""Everything that `make test` does, step by step, with what was left out and why; exit status 1 if a step failed.

The lab, whose nodes mostly wait for each other, goes on beside the steps that need none; what it says follows theirs.

With --list: only say what would be done on this machine, and what is left out.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

TOP: Final = Path(__file__).parent.parent
BIN: Final = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the run; ``left_out`` says why it is not run here, ``beside`` that others go on meanwhile."""

    name: str
    argv: tuple[str, ...]
    left_out: str = ""
    beside: bool = False


def steps() -> list[Step]:
    """The steps on this machine, cheap ones first."""
    return [
        Step("format", tool("ruff", "format", "--check", "--quiet", ".")),
        Step("lint", tool("ruff", "check", "--quiet", ".")),
        Step("types (mypy)", tool("mypy")),
        Step("types (pyright)", tool("pyright")),
        Step("imports", tool("lint-imports")),
        Step("generated docs", (sys.executable, "docs/generate.py", "--check")),
        Step("site", tool("mkdocs", "build", "--quiet", "--strict")),
        Step("unit, scenario, crash and contract tests", tool("pytest", "-q", "--durations=20")),
        Step("lab", tool("pytest", "-q", "--durations=12", "-m", "lab", "tests/lab"), _no_lab(), beside=True),
        # Behind the lab, whose image has a mosquitto where this machine has none.
        Step("broker", tool("pytest", "-q", "-m", "broker", "tests/broker"), _no_broker(), beside=True),
    ]


def tool(name: str, *words: str) -> tuple[str, ...]:
    """The argv of a tool of the virtual environment."""
    return (str(BIN / name), *words)


def _no_lab() -> str:
    if os.environ.get("REFLOAT_NO_LAB"):
        return "REFLOAT_NO_LAB is set"
    if os.geteuid() != 0:
        return "the lab of real Slurm nodes needs root (containers, mounts, network namespaces)"
    if not Path("/etc/debian_version").exists():
        return "the lab of real Slurm nodes needs a Debian machine (debootstrap)"
    return ""


def _no_broker() -> str:
    here = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return "" if here or not _no_lab() else "there is no mosquitto here, and no lab that has one"


class Lane:
    """Steps one after another, and how each went."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self._steps = tuple(steps)
        self._stopped = threading.Event()
        self._program: subprocess.Popen[bytes] | None = None
        self.outcomes: list[tuple[str, str]] = []

    def run(self, out: IO[str]) -> None:
        """Run all steps, whatever fails; what they say goes to ``out``."""
        for step in self._steps:
            if self._stopped.is_set():
                return
            print(f"==> {step.name}" + (f": left out: {step.left_out}" if step.left_out else ""), file=out, flush=True)
            outcome = f"left out: {step.left_out}" if step.left_out else self._outcome(step, out)
            self.outcomes.append((step.name, outcome))

    def _outcome(self, step: Step, out: IO[str]) -> str:
        began = time.monotonic()
        with subprocess.Popen(step.argv, cwd=TOP, stdout=out, stderr=out) as self._program:
            status = self._program.wait()
        took = f"{time.monotonic() - began:.1f} s"
        return f"passed in {took}" if status == 0 else f"FAILED (status {status}) after {took}"

    def stop(self) -> None:
        """Let the present step clean up and end, and start no other."""
        self._stopped.set()
        if self._program is not None and self._program.poll() is None:
            self._program.send_signal(signal.SIGINT)


def main() -> int:
    """Run all steps, and say at the end how each went."""
    todo = steps()
    if sys.argv[1:] == ["--list"]:
        for step in todo:
            print(f"{step.name}: {'left out: ' + step.left_out if step.left_out else ' '.join(step.argv)}")
        return 0
    front, beside = Lane(step for step in todo if not step.beside), Lane(step for step in todo if step.beside)
    with tempfile.NamedTemporaryFile("w+", prefix="refloat-test-") as told, ThreadPoolExecutor(1) as pool:
        print(
            f"==> beside what follows: {', '.join(step.name for step in todo if step.beside)}: {told.name}", flush=True
        )
        waiting = pool.submit(beside.run, told)
        try:
            front.run(sys.stdout)
            with Path(told.name).open(errors="replace") as said:
                while not waiting.done():
                    _pass_on(said)
                    time.sleep(0.5)
                _pass_on(said)
            waiting.result()
        except KeyboardInterrupt:
            print("==> stopping; the lab cleans up", flush=True)
            front.stop()
            beside.stop()
            return 130
    return _summary([*front.outcomes, *beside.outcomes])


def _pass_on(said: IO[str]) -> None:
    sys.stdout.write(said.read())
    sys.stdout.flush()


def _summary(outcomes: list[tuple[str, str]]) -> int:
    print("==> summary")
    for name, outcome in outcomes:
        print(f"    {name}: {outcome}")
    failed = sum(outcome.startswith("FAILED") for _, outcome in outcomes)
    passed = sum(outcome.startswith("passed") for _, outcome in outcomes)
    print(f"steps: {passed} passed, {failed} failed, {len(outcomes) - passed - failed} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
