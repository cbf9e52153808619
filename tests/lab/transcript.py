# SPDX-License-Identifier: Apache-2.0
"""Write docs/lab-transcript.md: one cycle on real Slurm, with no broker and no coordinator, second by second.

sudo .venv/bin/python tests/lab/transcript.py > docs/lab-transcript.md
"""

import re
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from reflab import app
from reflab.cluster import Lab
from reflab.errors import LabError
from reflab.places import CONTROLLER

NODE = "n1"


@dataclass
class Story:
    """What was seen, with the seconds since the trigger."""

    lab: Lab
    began: float = 0.0
    lines: list[str] = field(default_factory=list)
    last: str = ""

    def tell(self, text: str) -> None:
        """One line."""
        self.lines.append(f"{time.time() - self.began:7.2f}  {text}")

    def look(self) -> None:
        """Tell what Slurm shows, if it has changed."""
        try:
            record = self.lab.record(NODE)
        except LabError:
            return
        reason = re.sub(r"\[(\w+)@.*", r"[\1]", record.get("Reason", ""))
        shown = f"{record['State']:<24} {reason}".rstrip()
        if shown != self.last:
            self.last = shown
            self.tell(f"slurm    {shown}")


def main() -> None:
    """Bring a lab up, run the cycle, print the page."""
    lab = Lab(nodes=2, project=app.App())
    lab.places = replace(lab.places, name="transcript")
    lab.up()
    try:
        sys.stdout.write(page(lab))
    finally:
        lab.down()


def page(lab: Lab) -> str:
    """The page as Markdown."""
    release = lab.scontrol("--version").stdout.strip()
    lab.exec(CONTROLLER, ["systemctl", "stop", "refloat-coordinator", "mosquitto"])
    lab.wait(lambda: lab.node_state(NODE) == {"IDLE"}, 60, "the node idle")
    time.sleep(20)  # the agent has learnt that nobody is to be asked
    story, booted = run(lab)
    return "\n".join(
        [
            "# One cycle on real Slurm",
            "",
            (
                f"{release}, one node in a container with an empty root after each boot and 3 s of firmware; no "
                "broker, no coordinator."
            ),
            "Seconds since the trigger. `make lab-transcript` repeats it (as root, on Debian).",
            "",
            "```",
            *story.lines,
            "```",
            "",
            (
                f"Out of service beyond the bare reboot: {overhead(story, booted):.1f} s: from the end of DRAINING to "
                "the resumed node, less the time from the accepted reboot to the"
            ),
            (
                "agent's start in the new boot. That the node is empty the agent sees at its next own read of the "
                "node: within 10 s as configured here, at once with a coordinator's feed."
            ),
            "",
        ]
    )


def run(lab: Lab) -> tuple[Story, float]:
    """The cycle, as Slurm and the agent's log tell it."""
    story = Story(lab)
    job = lab.submit(NODE, "sleep 8")
    lab.wait(lambda: lab.job_state(job) == "RUNNING", 30, "the job running")
    boot = lab.boot_id(NODE)
    story.began = time.time()
    story.tell(f"$ scontrol update nodename={NODE} state=drain reason=reboot       (job {job} runs there)")
    lab.scontrol("update", f"nodename={NODE}", "state=drain", "reason=reboot")
    queued = lab.submit(NODE, "sleep 1")
    ended = False
    while lab.job_state(queued) != "COMPLETED":
        story.look()
        if not ended and lab.job_state(job) == "COMPLETED":
            ended = True
            story.tell(f"job      {job} COMPLETED")
        time.sleep(0.05)
    story.tell(f"job      {queued} COMPLETED (it was queued for this node after the trigger)")
    story.lines += agent_lines(lab, story.began)
    story.lines.sort(key=lambda line: float(line.split()[0]))
    return story, float(boot != lab.boot_id(NODE))


def agent_lines(lab: Lab, began: float) -> list[str]:
    """The agent's log since the trigger, shortened."""
    lines = []
    for line in lab.journal(NODE, "--unit=refloat-agent", "--output=short-unix").splitlines():
        match = re.match(r"(?P<at>\d+\.\d+) \S+ refloat-agent\[\d+\]: (?P<text>.*)", line)
        if (
            match
            and float(match["at"]) >= began
            and not match["text"].startswith(("check ", "check_", "broker_", "slurm_"))
        ):
            text = re.sub(r' (phase|cycle)=("[^"]*"|\S+)', "", match["text"])
            lines.append(f"{float(match['at']) - began:7.2f}  agent    {text}")
    return lines


def overhead(story: Story, rebooted: float) -> float:
    """Seconds from the job's end to the resumed node, less those from the accepted reboot to the agent's new start."""
    if not rebooted:
        raise AssertionError("the node was not rebooted")

    def at(words: str) -> float:
        return next(float(line.split()[0]) for line in story.lines if words in line)

    bare = at("agent_started") - at("action=Reboot()")
    return at("resumed title") - at("drain_seen") - bare - max(0.0, at("Entered STOPPING") - at("drain_seen"))


if __name__ == "__main__":
    main()
