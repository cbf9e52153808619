# SPDX-License-Identifier: Apache-2.0
"""How long a node is out of service for a reboot: a script inside the health check, and refloat, on the same nodes.

Run by `make bench-cycle`, as root on Debian. Both get a lab of real Slurm whose nodes really reboot, from one image. A
cycle begins when the last job of the node has ended and Slurm shows it drained, and ends when Slurm would start the
next job there. Beside it stands a bare reboot: `systemctl reboot` until slurmd has registered, with nobody doing
anything else.
"""

import argparse
import json
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "lab"))

from reflab import app, host  # noqa: E402 - found by the line above
from reflab.cluster import Lab  # noqa: E402
from reflab.errors import LabError  # noqa: E402
from reflab.places import CONTROLLER  # noqa: E402

NODES: Final = 3
INTERVAL_S: Final = 60
SCRIPT: Final = "rolling-reboot.sh"
SCRIPT_CONF: Final = f"HealthCheckProgram=/lab/{SCRIPT}\nHealthCheckInterval={INTERVAL_S}"
SERVING: Final = frozenset({"IDLE", "ALLOCATED", "MIXED", "COMPLETING"})
PATIENCE_S: Final = 420.0
PLACE: Final = Path("build/bench/cycle.json")
GOAL_S: Final = 3.0
GOAL_RATIO: Final = 10.0


@dataclass(slots=True)
class Trip:
    """One node out of service and back: when (seconds since 1970) it was drained, serving again, and what happened."""

    drained: float = 0.0
    serving: float = 0.0
    harmed: int = 0
    reboots: int = 0
    moments: list[tuple[float, str]] = field(default_factory=list)

    @property
    def out_s(self) -> float:
        """How long no job could start there."""
        return self.serving - self.drained

    def phases(self) -> dict[str, float]:
        """How long each phase took: from its moment to the next."""
        inside = [(at, what) for at, what in sorted(self.moments) if self.drained - 5 <= at <= self.serving + 1]
        ends = [at for at, _ in inside[1:]] + [self.serving]
        split: dict[str, float] = {}
        for (at, what), end in zip(inside, ends, strict=True):
            split[what] = split.get(what, 0.0) + max(0.0, end - max(at, self.drained))
        return split


def main() -> None:
    """Measure both, print the table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=6, help="cycles of each (6)")
    options = parser.parse_args()
    if why := host.obstacle():
        sys.exit(f"bench-cycle: {why}")
    rounds = -(-options.cycles // NODES)
    # The script mostly sleeps, so its nodes go through it together; refloat's go one by one, as its budget lets them.
    script = in_lab("bench-script", None, SCRIPT_CONF, rounds, script_trip, at_once=NODES)
    refloat = in_lab("bench-refloat", app.App(), "", rounds, refloat_trip, at_once=1)
    report(script, refloat)


Figures = dict[str, Any]
Measured = tuple[list[float], list[Trip]]


def in_lab(
    name: str,
    project: app.App | None,
    conf: str,
    rounds: int,
    moments: Callable[[Lab, str, float], list[Any]],
    *,
    at_once: int,
) -> Measured:
    """Bring a lab up, measure bare reboots and cycles there, and take it down."""
    lab = Lab(nodes=NODES, project=project, slurm_conf=conf, start_project=True)
    lab.places = replace(lab.places, name=name)
    lab.up()
    try:
        for node in lab.names():
            shutil.copy(HERE / SCRIPT, lab.node(node).share / SCRIPT)
            lab.wait(lambda node=node: lab.node_state(node) <= SERVING, 120, f"{node} in service")  # type: ignore[misc]
        bare = on_all(lab, bare_reboot, at_once)
        trips = [
            trip for _ in range(rounds) for trip in on_all(lab, lambda lab, node: cycle(lab, node, moments), at_once)
        ]
    finally:
        lab.down()
    return bare, trips


def on_all(lab: Lab, do: Callable[[Lab, str], Any], at_once: int) -> list[Any]:
    """Do it on all nodes, on so many at a time."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda node: do(lab, node), lab.names()))


def bare_reboot(lab: Lab, node: str) -> float:
    """Seconds from `systemctl reboot` to the registration of the new boot, on a node drained for something else."""
    lab.scontrol("update", f"nodename={node}", "state=drain", "reason=maintenance")
    before = lab.boot_id(node)
    began = time.time()
    lab.exec(node, ["systemctl", "reboot"])
    lab.wait_booted(node, before)
    lab.wait(lambda: "NOT_RESPONDING" not in lab.node_state(node), 60, f"{node} answers")
    lab.wait_registered(node)
    took_s = time.time() - began
    say(f"{node}: bare reboot {took_s:.1f} s")
    lab.scontrol("update", f"nodename={node}", "state=undrain")
    lab.restore(node)
    lab.wait(lambda: lab.node_state(node) <= SERVING, 60, f"{node} in service")
    return took_s


def cycle(lab: Lab, node: str, moments: Callable[[Lab, str, float], list[Any]]) -> Trip:
    """Trigger under a running job, and watch until the job that waits behind it has started."""
    trip, reboots = Trip(), lab.reboots(node)
    job = lab.submit(node, f"sleep 6; echo done >/lab/job-of-{node}")
    (lab.node(node).share / f"job-of-{node}").unlink(missing_ok=True)
    lab.wait(lambda: lab.job_state(job) == "RUNNING", 60, "the job running")
    asked = time.time()
    lab.scontrol("update", f"nodename={node}", "state=drain", "reason=reboot")
    trip.drained = until(lab, node, lambda flags: "DRAIN" in flags and not flags & {"ALLOCATED", "MIXED", "COMPLETING"})
    trip.serving = until(lab, node, lambda flags: flags <= SERVING)
    trip.reboots = lab.reboots(node) - reboots
    finished = (lab.node(node).share / f"job-of-{node}").exists()
    trip.harmed = int(not finished or lab.job_state(job) != "COMPLETED")
    trip.moments = moments(lab, node, asked)
    say(f"{node}: out of service for {trip.out_s:.1f} s")
    return trip


def until(lab: Lab, node: str, reached: Callable[[frozenset[str]], bool]) -> float:
    """Wait until Slurm shows it; the moment at which it was seen."""

    def shown() -> bool:
        try:
            return reached(lab.node_state(node))
        except LabError:
            return False

    lab.wait(shown, PATIENCE_S, f"{node} there")
    return time.time()


def script_trip(lab: Lab, node: str, asked: float) -> list[tuple[float, str]]:
    """What the script wrote down of a cycle."""
    words = {"stopping": "stop and unmount", "rebooting": "reboot", "mounting": "mount", "resuming": "resume"}
    found = [(asked, "wait for the interval")]
    for line in (lab.node(node).share / "script.log").read_text().splitlines():
        at, what = line.split()[:2]
        if float(at) >= asked and what in words:
            found.append((float(at), words[what]))
        elif float(at) >= asked and found[-1][1] == "reboot":
            found.append((float(at), "wait for the interval"))
    return found


def refloat_trip(lab: Lab, node: str, asked: float) -> list[tuple[float, str]]:
    """What refloat's record says of a cycle."""
    done = lab.exec(CONTROLLER, ["refloat", "events", node, "--json"])
    events = [event for event in json.loads(done.stdout) if event["at_ns"] / 1e9 >= asked]
    return [(event["at_ns"] / 1e9, event.get("phase", "IN_SERVICE").lower()) for event in events]


def report(script: Measured, refloat: Measured) -> None:
    """Print the table and write build/bench/cycle.json."""
    found: Figures = {"script": figures(*script), "refloat": figures(*refloat)}
    trips = script[1] + refloat[1]
    found["cycles"] = len(refloat[1])
    found["jobs_harmed"] = sum(trip.harmed for trip in trips)
    found["reboots_per_cycle"] = sorted({trip.reboots for trip in trips})
    print(f"{'':10}{'cycles':>8}{'out of service s':>18}{'bare reboot s':>15}{'overhead s':>12}")
    for who, trips_of in (("script", script[1]), ("refloat", refloat[1])):
        row = found[who]
        print(
            f"{who:10}{len(trips_of):>8}{row['out_of_service_s']:>18.2f}{row['bare_reboot_s']:>15.2f}"
            f"{row['overhead_s']:>12.2f}"
        )
        for phase, took_s in row["phases_s"].items():
            print(f"{'':12}{phase:<28}{took_s:>8.2f}")
    ours, ratio = (
        found["refloat"]["overhead_s"],
        found["script"]["overhead_s"] / max(0.01, found["refloat"]["overhead_s"]),
    )
    print(f"refloat over the bare reboot: {ours:.2f} s (goal <= {GOAL_S:g} s: {'met' if ours <= GOAL_S else 'MISSED'})")
    print(f"less overhead than the script: {ratio:.0f}x (goal >= {GOAL_RATIO:g}x: {met(ratio >= GOAL_RATIO)})")
    print(f"jobs harmed: {found['jobs_harmed']}; reboots per cycle: {found['reboots_per_cycle']}")
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    PLACE.write_text(json.dumps(found, indent=2) + "\n")


def met(good: bool) -> str:  # noqa: FBT001 - what is met is all that it says
    """Say whether a goal is met."""
    return "met" if good else "MISSED"


def figures(bare: list[float], trips: list[Trip]) -> Figures:
    """Medians of one side."""
    out_s, bare_s = statistics.median(trip.out_s for trip in trips), statistics.median(bare)
    return {
        "out_of_service_s": round(out_s, 3),
        "bare_reboot_s": round(bare_s, 3),
        "overhead_s": round(out_s - bare_s, 3),
        "all_s": [round(trip.out_s, 3) for trip in trips],
        "phases_s": medians(trip.phases() for trip in trips),
    }


def medians(splits: Iterable[dict[str, float]]) -> dict[str, float]:
    """The median of each phase, in the order in which they come."""
    all_of: dict[str, list[float]] = {}
    for split in splits:
        for phase, took_s in split.items():
            all_of.setdefault(phase, []).append(took_s)
    return {phase: round(statistics.median(took), 3) for phase, took in all_of.items()}


_saying = threading.Lock()


def say(text: str) -> None:
    """Tell whoever waits."""
    with _saying:
        sys.stderr.write(f"bench-cycle: {text}\n")


if __name__ == "__main__":
    main()
