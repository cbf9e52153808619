# SPDX-License-Identifier: Apache-2.0
"""From a fault on a node to the drain that real Slurm shows: what `make bench-agent` measures, in the lab.

Run by `make bench-events`, as root on Debian. Every check is looked at but once an hour by itself. A trial begins just
before the fault, by the node's clock, and ends when slurmctld is seen to show the drain: asking it takes some 50 ms,
which are in the figures. Between the trials an administrator resumes the node.
"""

import argparse
import json
import math
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent.parent / "lab"))

import labfaults
from reflab import host
from reflab.cluster import Lab

PLACE: Final = Path("build/bench/agent.json")
QUIET_S: Final = 3.0


def main() -> None:
    """Measure, print the table, and add the figures to those of bench-agent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20, help="trials of each fault (20)")
    options = parser.parse_args()
    if why := host.obstacle():
        sys.exit(f"bench-events: {why}")
    lab = labfaults.bring_up("bench-events", len(labfaults.FAULTS))
    try:
        with ThreadPoolExecutor(len(labfaults.FAULTS)) as pool:
            trying = {
                fault.name: pool.submit(trials, lab, node, fault, options.trials)
                for node, fault in zip(lab.names(), labfaults.FAULTS, strict=True)
            }
            found = {name: future.result() for name, future in trying.items()}
    finally:
        lab.down()
    report(found)


def trials(lab: Lab, node: str, fault: labfaults.Fault, count: int) -> dict[str, float]:
    """Break and mend so many times."""
    delays = []
    for number in range(count):
        time.sleep(QUIET_S)
        began = labfaults.break_(lab, node, fault)
        delays.append(labfaults.drained_at(lab, node) - began)
        labfaults.mend(lab, node, fault)
        lab.wait(lambda: labfaults.is_healthy(lab, node), 30, f"{node} healthy")
        # Unless the agent was faster: it lifts a drain of its own at once, and then once a minute.
        lab.scontrol("update", f"nodename={node}", "state=resume", check=False)
        lab.wait(lambda: lab.node_state(node) == {"IDLE"}, 30, f"{node} in service")
        sys.stderr.write(f"bench-events: {fault.name}: {number + 1} of {count}\n")
    ordered = sorted(delays)
    return {
        "trials": count,
        "p50_s": round(statistics.median(delays), 4),
        "p99_s": round(ordered[math.ceil(0.99 * count) - 1], 4),
        "max_s": round(ordered[-1], 4),
    }


def report(found: dict[str, Any]) -> None:
    """Print the table and add it to build/bench/agent.json."""
    print(f"{'event -> drain in Slurm':28}{'trials':>8}{'p50 s':>9}{'p99 s':>9}  goal")
    for name, row in found.items():
        met = "met" if row["p99_s"] < 1.0 else "MISSED"
        print(f"{name:28}{row['trials']:>8}{row['p50_s']:>9.3f}{row['p99_s']:>9.3f}  p99 < 1 s: {met}")
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(PLACE.read_text()) if PLACE.exists() else {}
    PLACE.write_text(json.dumps({**before, "slurm_events": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
