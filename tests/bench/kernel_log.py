# SPDX-License-Identifier: Apache-2.0
"""What it costs to read a storm of kernel log lines: processor time per line, and at 10,000 lines a second.

Part of `make bench-agent`; alone: `kernel_log.py`. Reading and deciding both count, writing does not. A storm in the
whole agent is one of `storms.py`.
"""

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Final

from refloat_checks.kernel_follower import Follower, by_needle
from refloat_checks.kernel_rules import RULES

GOAL_PERCENT: Final = 5.0
STORM_PER_S: Final = 10_000
_AT_ONCE: Final = 250
_PIPE_BYTES: Final = 1 << 20
"""A page for each record, and the most that anybody may ask for."""
PLACE: Final = Path("build/bench/agent.json")
_LINES: Final = {
    "that no rule knows": "usb 1-1.4: new high-speed USB device number {} using xhci_hcd and a few words more",
    "that a rule knows": "I/O error, dev sda, sector {} op 0x0:(READ) flags 0x0 phys_seg 1 prio class 0",
}


def main() -> None:
    """Measure, print, and write the figures beside the others of bench-agent."""
    found = measure()
    for sort, figures in found.items():
        percent = figures["cpu_percent_in_storm"]
        met = "met" if percent < GOAL_PERCENT else "MISSED"
        print(f"a line of the kernel log {sort:20}{figures['us_per_line']:>6.2f} us", end="; ")
        print(f"{STORM_PER_S:,} a second: {percent:.1f} % of a core (goal < {GOAL_PERCENT:g} %: {met})")
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(PLACE.read_text()) if PLACE.exists() else {}
    PLACE.write_text(json.dumps({**before, "kernel_log": found}, indent=2) + "\n")


def measure(lines: int = 30_000) -> dict[str, dict[str, float]]:
    """Read so many lines of each sort, one to a read as from /dev/kmsg; the writing is not counted."""
    return {sort: _measure(line, lines) for sort, line in _LINES.items()}


def _measure(line: str, lines: int) -> dict[str, float]:
    reading, writing = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    follower = Follower(Path(f"/proc/self/fd/{reading}"), by_needle(RULES))
    spent_s = 0.0
    for start in range(0, lines, _AT_ONCE):
        for number in range(start, start + _AT_ONCE):
            os.write(writing, f"3,{number},5140900,-;{line.format(number)}\n SUBSYSTEM=x\n".encode())
        before_s = time.process_time()
        follower.read_new(1.0)
        spent_s += time.process_time() - before_s
    follower.close()
    os.close(reading)
    os.close(writing)
    per_line_s = spent_s / lines
    return {"us_per_line": per_line_s * 1e6, "cpu_percent_in_storm": per_line_s * STORM_PER_S * 100}


if __name__ == "__main__":
    main()
