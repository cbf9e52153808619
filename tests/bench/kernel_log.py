# SPDX-License-Identifier: Apache-2.0
"""What it costs to read a storm of kernel log lines: processor time per line, and at 10,000 lines a second."""

import json
import socket
import sys
import time
from typing import Final

from refloat_checks.kernel_log import Follower, by_needle
from refloat_checks.kernel_rules import RULES

STORM_PER_S: Final = 10_000
_AT_ONCE: Final = 100
_LINES: Final = {
    "that no rule knows": "usb 1-1.4: new high-speed USB device number 7 using xhci_hcd and a few words more",
    "that a rule knows": "I/O error, dev sda, sector 12345 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 0",
}


def measure(lines: int = 20_000) -> dict[str, dict[str, float]]:
    """Read so many lines of each sort, one to a read as from /dev/kmsg; the writing is not counted."""
    return {sort: _measure(line, lines) for sort, line in _LINES.items()}


def _measure(line: str, lines: int) -> dict[str, float]:
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with kernel, ours:
        ours.settimeout(0)
        follower = Follower(ours.fileno(), by_needle(RULES))
        spent_s = 0.0
        for start in range(0, lines, _AT_ONCE):
            for number in range(start, start + _AT_ONCE):
                kernel.send(f"3,{number},5140900,-;{line}\n SUBSYSTEM=x\n".encode())
            before_s = time.process_time()
            follower.read_new(1.0)
            spent_s += time.process_time() - before_s
    per_line_s = spent_s / lines
    return {"us_per_line": per_line_s * 1e6, "cpu_percent_in_storm": per_line_s * STORM_PER_S * 100}


if __name__ == "__main__":
    json.dump({"kernel_log": measure()}, sys.stdout, indent=2)
    print()
