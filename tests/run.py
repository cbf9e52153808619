# SPDX-License-Identifier: Apache-2.0
"""Everything that `make test` does, step by step, with what was left out and why; exit status 1 if a step failed.

With --list: only say what would be done on this machine, and what is left out.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).parent.parent
BIN: Final = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the run; ``left_out`` says why it is not run here."""

    name: str
    argv: tuple[str, ...]
    left_out: str = ""


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
        Step("lab", tool("pytest", "-q", "--durations=12", "-m", "lab", "tests/lab"), left_out=_no_lab()),
        # Behind the lab, whose image has a mosquitto where this machine has none.
        Step("broker", tool("pytest", "-q", "-m", "broker", "tests/broker"), left_out=_no_broker()),
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


def main() -> int:
    """Run all steps, whatever fails, and say at the end how each went."""
    if sys.argv[1:] == ["--list"]:
        for step in steps():
            print(f"{step.name}: {'left out: ' + step.left_out if step.left_out else ' '.join(step.argv)}")
        return 0
    outcomes: list[tuple[str, str]] = []
    for step in steps():
        if step.left_out:
            print(f"==> {step.name}: left out: {step.left_out}", flush=True)
            outcomes.append((step.name, f"left out: {step.left_out}"))
            continue
        print(f"==> {step.name}", flush=True)
        began = time.monotonic()
        status = subprocess.run(step.argv, cwd=TOP, check=False).returncode
        took = f"{time.monotonic() - began:.1f} s"
        outcomes.append((step.name, f"passed in {took}" if status == 0 else f"FAILED (status {status}) after {took}"))
    print("==> summary")
    for name, outcome in outcomes:
        print(f"    {name}: {outcome}")
    failed = sum(outcome.startswith("FAILED") for _, outcome in outcomes)
    passed = sum(outcome.startswith("passed") for _, outcome in outcomes)
    print(f"steps: {passed} passed, {failed} failed, {len(outcomes) - passed - failed} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
