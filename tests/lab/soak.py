# SPDX-License-Identifier: Apache-2.0
"""A soak: random triggers, jobs, administrators, kills, power cuts and outages in the lab, with the promises watched.

Run by `make soak MINUTES=... [SEED=...]`, as root on Debian. What each node goes through is drawn from the seed alone,
so the same seed gives the same plan; when things meet is up to the machine. Ends with 1 if a promise was broken:

- no job harmed: each that began ended by itself, with its storage there (unless its node lost its power under it);
- at most one reboot for each trigger;
- a drain that is somebody else's stands as it was written until they lift it;
- in the end each node is back in service, or held with a reason.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
sys.path.insert(0, str(HERE))

from crashlab import SERVING, count, crash_lab, mounted  # noqa: E402 - found by the line above
from reflab import host  # noqa: E402
from reflab.cluster import Lab  # noqa: E402
from reflab.errors import LabError  # noqa: E402
from reflab.node import Power  # noqa: E402
from reflab.places import CONTROLLER  # noqa: E402

NODES: Final = 4
PLACE: Final = Path("build/soak.json")
SETTLES_S: Final = 240.0
SAVES_S: Final = 6.0
"""slurmctld writes its state down within this time: what it was told before a SIGKILL and had not saved is lost."""
FOREIGN: Final = "bad dimm, alice"
_GIVEN_BACK: Final = "given back as it stood before"
UNITS: Final = ("refloat-coordinator", "mosquitto", "slurmctld", "influxdb")


class Story(StrEnum):
    """What is done to a node."""

    REBOOT = "reboot"
    RESTART = "gpfs-restart"
    FOREIGN = "foreign drain"
    CHANGED = "reason changed"
    RESUMED = "resumed by hand"


class Fault(StrEnum):
    """What goes wrong meanwhile."""

    AGENT_KILLED = "agent killed"
    POWER_CUT = "power cut"
    UNPLUGGED = "unplugged"


@dataclass(frozen=True, slots=True)
class Episode:
    """One thing that is done to one node, the jobs there, and what goes wrong: seconds from its beginning."""

    story: Story
    jobs: tuple[float, ...]
    acts_s: float
    """When the administrator comes back."""
    faults: tuple[tuple[float, Fault, float], ...]


def draw(dice: random.Random) -> Episode:
    """The next episode of a node."""
    story = dice.choices(list(Story), (6, 2, 1, 2, 2))[0]
    faults = sorted(
        (round(dice.uniform(0.0, 14.0), 1), dice.choices(list(Fault), (5, 2, 1))[0], round(dice.uniform(0.2, 6.0), 1))
        for _ in range(dice.choice((0, 1, 1, 2, 3)))
    )
    jobs = tuple(round(dice.uniform(0.5, 5.0), 1) for _ in range(dice.choice((0, 1, 2))))
    return Episode(story, jobs, round(dice.uniform(0.5, 12.0), 1), tuple(faults))


@dataclass(slots=True)
class Tally:
    """What was done, and what was wrong. Shared by all threads."""

    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)
    forgot: list[float] = field(default_factory=list)
    """When slurmctld was killed: it may have lost what it was told just before."""
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def note(self, what: str, number: int = 1) -> None:
        """Count it."""
        with self._guard:
            self.done[what] += number

    def say(self, text: str) -> None:
        """One line of the log."""
        with self._guard:
            print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def blame(self, text: str) -> None:
        """A promise was broken."""
        with self._guard:
            self.wrong.append(text)
        self.say(f"BROKEN: {text}")

    def may_have_forgotten(self, at: float) -> bool:
        """Whether slurmctld was killed before it must have saved what it was told then."""
        return any(at - 1 <= killed <= at + SAVES_S for killed in self.forgot)


class NodeSoak:
    """The episodes of one node, one after the other."""

    def __init__(self, lab: Lab, name: str, tally: Tally, stop: threading.Event, seed: str) -> None:
        self.lab, self.name, self.tally, self.stop = lab, name, tally, stop
        self.dice = random.Random(f"{seed}/{name}")  # noqa: S311 - a plan, no secret
        self.number = 0
        self.stood = False
        """Whether a foreign drain stood in the last episode."""
        self.lifted = 0.0
        """When the administrator lifted a foreign drain last."""
        self.cuts: list[float] = []

    def run(self) -> None:
        """Go on until told to stop."""
        while not self.stop.is_set():
            self.number += 1
            episode = draw(self.dice)
            self.tally.say(f"{self.name} #{self.number}: {episode}")
            try:
                self.episode(episode)
            except LabError as error:
                self.tally.blame(f"{self.name} #{self.number} {episode.story}: {error}; now {self.shown()}")
                self.lab.restore(self.name)
            self.stood = self.stood or episode.story in {Story.FOREIGN, Story.CHANGED}

    def episode(self, episode: Episode) -> None:
        """Jobs, the trigger, faults, the administrator, and the end: judged."""
        self.cuts.clear()
        reboots = count(self.lab, self.name, Power.REBOOT)
        jobs = [self.submit(index, seconds) for index, seconds in enumerate(episode.jobs)]
        faults = threading.Thread(target=self.faults, args=(episode,))
        faults.start()
        began = time.time()
        trigger = {Story.RESTART: "gpfs-restart", Story.FOREIGN: FOREIGN}.get(episode.story, "reboot")
        self.tell(f"reason={trigger}", "state=drain")
        if episode.story is not Story.REBOOT and episode.story is not Story.RESTART:
            time.sleep(episode.acts_s)
            self.administrate(episode, began)
        faults.join()
        self.settle(episode)
        self.judge(episode, reboots, jobs, began)

    def administrate(self, episode: Episode, began: float) -> None:
        """The administrator comes back, and changes what stands there."""
        if episode.story is Story.RESUMED:
            self.tell("state=resume", check=False)
            return
        if episode.story is Story.CHANGED:
            if "DRAIN" not in self.flags():
                self.tell("state=drain", f"reason={FOREIGN}")
            self.tell(f"reason={FOREIGN}")
            began = time.time()
        until = time.monotonic() + 12.0
        while time.monotonic() < until:
            record = self.lab.wait(lambda: self.lab.record(self.name), SETTLES_S, "slurmctld answers")
            stands = "DRAIN" in record["State"] and record.get("Reason", "").startswith(FOREIGN)
            if not stands and not self.tally.may_have_forgotten(began):
                self.tally.blame(
                    f"{self.name} #{self.number}: {FOREIGN!r} became {record['State']} {record.get('Reason')}"
                )
                return
            time.sleep(0.5)
        self.tally.note("foreign drains left in place")
        self.tell("state=resume", check=False)
        self.lifted = time.time()

    def submit(self, index: int, seconds: float) -> tuple[int, Path]:
        """A job that writes down that it began, that its storage is there, and that it ended."""
        label = f"job-{self.number}-{index}"
        script = f"""cd /lab; echo >{label}.began
mounted() {{ grep -q ' /gpfs/scratch ' /proc/mounts && grep -q ' /scratch ' /proc/mounts; }}
mounted || touch {label}.bare
i=0
while [ $i -lt {int(seconds * 10)} ]; do
    mounted || [ -e {label}.bare ] || touch {label}.harmed
    sleep 0.1; i=$((i + 1))
done
echo >{label}.ended"""

        def submitted() -> int:
            return self.lab.submit(self.name, script, "--no-requeue", "--ntasks=1")

        number = self.lab.wait(submitted, SETTLES_S, "a job submitted")
        self.tally.note("jobs")
        return number, self.lab.node(self.name).share / label

    def faults(self, episode: Episode) -> None:
        """What goes wrong, when it is time."""
        began = time.monotonic()
        for at_s, fault, lasts_s in episode.faults:
            time.sleep(max(0.0, began + at_s - time.monotonic()))
            self.tally.note(fault)
            if fault is Fault.AGENT_KILLED:
                argv = ["systemctl", "kill", "--signal=KILL", "refloat-agent"]
                try:
                    self.lab.exec(self.name, argv, check=False, timeout=10)
                except LabError as error:
                    self.tally.say(f"{self.name}: not killed: {error}")
            elif fault is Fault.POWER_CUT:
                self.cuts.append(time.time())
                self.lab.power_off(self.name)
                time.sleep(lasts_s)
                self.lab.power_on(self.name)
            else:
                self.lab.unplug(self.name)
                time.sleep(lasts_s)
                self.lab.plug(self.name)

    def settle(self, episode: Episode) -> None:
        """Wait for the end of the story: in service, held, or lost in a way that is Slurm's to tell."""
        since = 0.0

        def settled() -> str:
            nonlocal since
            end = self.end()
            # A trigger that Slurm shows but the agent has not seen yet looks like nothing at all for a moment.
            since = since if end and since else time.monotonic()
            return end if end and time.monotonic() - since > 2.0 else ""

        end = self.lab.wait(settled, SETTLES_S, f"the end of {episode.story}")
        self.stood = end == _GIVEN_BACK
        if end != "in service":
            self.tally.say(f"{self.name} #{self.number}: {end}")
            if end.startswith("refloat-hold"):
                self.tally.holds.append(end)
            self.lab.restore(self.name)
        self.lab.wait(lambda: self.end() == "in service", SETTLES_S, f"{self.name} in service")
        self.tally.note(f"ended: {end.partition(' ')[0] if end.startswith('refloat-hold') else end}")

    def end(self) -> str:
        """How the node stands, if that is an end; else empty."""
        record = self.lab.record(self.name)
        flags, reason = self.flags(), record.get("Reason", "")
        if flags <= SERVING and mounted(self.lab, self.name):
            return "in service"
        if "DRAIN" in flags and reason.startswith("refloat-hold:"):
            return reason
        # Lifted and triggered again before the agent had looked: to the agent the drain stood on beneath the trigger.
        if "DRAIN" in flags and reason.startswith(FOREIGN) and self.stood:
            return _GIVEN_BACK
        if "DRAIN" in flags and reason.startswith(FOREIGN) and self.tally.may_have_forgotten(self.lifted):
            return "lifted, which slurmctld has forgotten"
        if "DRAIN" not in flags and "DOWN" in flags and reason.startswith("Node unexpectedly rebooted"):
            return "Node unexpectedly rebooted"
        return ""

    def judge(self, episode: Episode, reboots: int, jobs: list[tuple[int, Path]], since: float) -> None:
        """Whether every promise was kept."""
        number = count(self.lab, self.name, Power.REBOOT) - reboots
        self.tally.note("episodes")
        self.tally.note("reboots", number)
        wanted = 0 if episode.story in {Story.RESTART, Story.FOREIGN} else 1
        # A slurmctld that has forgotten how far the node was shows the trigger again.
        wanted += sum(killed > since for killed in self.tally.forgot)
        if number > wanted:
            self.tally.blame(f"{self.name} #{self.number}: {number} reboots for {episode.story}")
        for job_id, job in jobs:
            # One that was still waiting when its node was drained has begun only now.
            self.lab.wait(lambda: self.is_over(job_id), SETTLES_S, f"{job.name} over")  # noqa: B023 - called at once
            began, ended, harmed, bare = (
                job.with_name(f"{job.name}.{word}") for word in ("began", "ended", "harmed", "bare")
            )
            # Who resumes a node by hand that is not up yet has jobs begin there: nothing was taken from them. After a
            # power cut in service slurmctld starts its job once more when slurmd registers: these nodes have no boot
            # gate, which would hold slurmd back until storage is mounted.
            if bare.exists() and not self.cuts and episode.story not in {Story.RESUMED, Story.CHANGED, Story.FOREIGN}:
                self.tally.blame(f"{self.name} #{self.number}: {job.name} began without its storage")
            if harmed.exists():
                self.tally.blame(f"{self.name} #{self.number}: storage was taken from under {job.name}")
            is_lost = began.exists() and not ended.exists()
            if is_lost and not self.cuts and not self.tally.may_have_forgotten(began.stat().st_mtime):
                self.tally.blame(f"{self.name} #{self.number}: {job.name} did not end")
            self.tally.note("jobs that ended", int(ended.exists()))

    def is_over(self, job: int) -> bool:
        """Whether the job has ended, or slurmctld has forgotten it."""
        done = self.lab.exec(CONTROLLER, ["squeue", "--noheader", "--format=%i"])
        return str(job) not in done.stdout.split()

    def tell(self, *words: str, check: bool = True) -> None:
        """Write to Slurm as an administrator who tries until it answers."""

        def told() -> bool:
            done = self.lab.scontrol("update", f"nodename={self.name}", *words, check=False)
            return done.returncode == 0 or (not check and "nable to contact" not in done.stderr)

        self.lab.wait(told, SETTLES_S, f"scontrol update {' '.join(words)}")

    def flags(self) -> frozenset[str]:
        """The node's flags in Slurm, as soon as it answers."""
        return self.lab.wait(lambda: self.lab.node_state(self.name), SETTLES_S, "slurmctld answers")

    def shown(self) -> str:
        """What Slurm shows, for a message."""
        try:
            record = self.lab.record(self.name)
        except LabError as error:
            return str(error)
        return f"{record['State']} {record.get('Reason', '')}"


def outages(lab: Lab, tally: Tally, stop: threading.Event, seed: str) -> None:
    """Kill and stop the daemons of the controller, one at a time."""
    dice = random.Random(f"{seed}/{CONTROLLER}")  # noqa: S311 - a plan, no secret
    while not stop.wait(dice.uniform(4.0, 15.0)):
        unit, hard, lasts_s = dice.choice(UNITS), dice.random() < 0.5, dice.uniform(0.2, 12.0)
        tally.note(f"{unit} {'killed' if hard else 'stopped'}")
        tally.say(f"{CONTROLLER}: {unit} {'killed' if hard else 'stopped'} for {lasts_s:.1f} s")
        if hard:
            lab.exec(CONTROLLER, ["systemctl", "kill", "--signal=KILL", unit], check=False)
            if unit == "slurmctld":
                tally.forgot.append(time.time())
        lab.exec(CONTROLLER, ["systemctl", "stop", unit], check=False)
        time.sleep(lasts_s)
        lab.exec(CONTROLLER, ["systemctl", "start", unit], check=False)


def judge_record(events: list[dict[str, Any]], tally: Tally) -> None:
    """No cycle of the record has rebooted twice."""
    reboots = Counter(event.get("cycle") for event in events if event["kind"] == "reboot")
    tally.note("events in the record", len(events))
    for cycle, number in reboots.items():
        if number > 1:
            tally.blame(f"cycle {cycle} has {number} reboots in the record")


def main() -> int:
    """Soak, and say what was done and what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**6)))
    options = parser.parse_args()
    if why := host.obstacle():
        sys.exit(f"soak: {why}")
    tally, stop = Tally(), threading.Event()
    tally.say(f"seed {options.seed}: {options.minutes:g} minutes on {NODES} nodes")
    with crash_lab("soak", NODES, dying=False) as lab:
        nodes = [NodeSoak(lab, name, tally, stop, options.seed).run for name in lab.names()]
        run_all([*nodes, lambda: outages(lab, tally, stop, options.seed)], stop, options.minutes * 60.0)
        argv = ["refloat", "events", "--json"]
        judge_record(json.loads(lab.wait(lambda: lab.exec(CONTROLLER, argv), 60, "the record").stdout), tally)
        PLACE.parent.mkdir(exist_ok=True)
        for name in (CONTROLLER, *lab.names()) if tally.wrong else ():
            PLACE.with_name(f"soak-{name}.log").write_text(lab.journal(name))
    return report(tally, options.seed, options.minutes)


def run_all(tasks: list[Callable[[], None]], stop: threading.Event, lasts_s: float) -> None:
    """Run them all, until the time is over and each has come to its end."""
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    stop.wait(lasts_s)
    stop.set()
    for thread in threads:
        thread.join()


def report(tally: Tally, seed: str, minutes: float) -> int:
    """Print the counts, write them down, and say with which status to end."""
    print(f"soak: {minutes:g} minutes, seed {seed}")
    for what, number in sorted(tally.done.items()):
        print(f"  {number:6} {what}")
    for hold in tally.holds:
        print(f"  held: {hold}")
    for wrong in tally.wrong:
        print(f"  BROKEN: {wrong}")
    print(f"promises broken: {len(tally.wrong)}; the same plan again: make soak MINUTES={minutes:g} SEED={seed}")
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    found = {"seed": seed, "minutes": minutes, "done": dict(tally.done), "held": tally.holds, "broken": tally.wrong}
    PLACE.write_text(json.dumps(found, indent=2) + "\n")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
