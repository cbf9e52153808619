# SPDX-License-Identifier: Apache-2.0
"""Two frozen filesystems among ten healthy ones: every other check stays on time, and nothing grows without bound.

Part of `make bench-agent`; alone: `frozen.py`, as root. One filesystem no longer takes requests, as a FUSE daemon that
is stopped: whoever asks can be killed. The other takes them and never answers, as a hard NFS mount whose server is
gone: whoever asks sleeps and cannot be killed. Every filesystem is measured once a second by the real agent.
"""

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from refloat_service import control

HERE: Final = Path(__file__).parent
UNSHARE: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
HEALTHY: Final = 10
INTERVAL_S: Final = 1.0
DEADLINE_S: Final = 2.0
FAIL_UNANSWERED_S: Final = 10.0
SICK: Final = {"deaf": "fuse", "mute": "nfs-like"}
FROZEN_S: Final = 30.0
POLL_S: Final = 0.1
PLACE: Final = Path("build/bench/agent.json")


def main() -> None:
    """Measure, print, and write the figures beside the others of bench-agent."""
    if "--inner" in sys.argv[1:]:
        json.dump(asyncio.run(measure()), sys.stdout)
        return
    if os.geteuid() != 0:
        sys.exit("frozen.py makes mounts in a namespace of its own: run it as root")
    done = subprocess.run(
        [*UNSHARE, sys.executable, __file__, "--inner"], check=True, stdout=subprocess.PIPE, text=True
    )
    report(json.loads(done.stdout))


def report(found: Mapping[str, Any]) -> None:
    """Print what was seen, and add it to build/bench/agent.json."""
    print(f"\n{'two of twelve filesystems frozen for':40}{FROZEN_S:>8.0f} s")
    for key, value in found.items():
        print(f"  {key:38}{value:>8}")
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(PLACE.read_text()) if PLACE.exists() else {}
    PLACE.write_text(json.dumps({**before, "frozen": found}, indent=2) + "\n")


@dataclass(slots=True)
class Watch:
    """What the agent said of its checks, look by look."""

    seen: dict[str, list[tuple[float, str]]] = field(default_factory=dict)
    helpers: int = 0

    def note(self, checks: list[dict[str, Any]]) -> None:
        """Keep what is new."""
        for each in checks:
            looks = self.seen.setdefault(each["check"], [])
            if not looks or looks[-1][0] != each["at_s"]:
                looks.append((each["at_s"], each["status"]))

    def longest_gap_s(self, since_s: float, until_s: float) -> float:
        """The longest time between two looks at any healthy filesystem."""
        gaps = [0.0]
        for name, looks in self.seen.items():
            moments = [at for at, _ in looks if since_s <= at <= until_s]
            if name.startswith("well") and len(moments) > 1:
                gaps += [later - sooner for sooner, later in itertools.pairwise(moments)]
        return max(gaps)

    def first(self, name: str, status: str, since_s: float) -> float:
        """How long after a moment a check first said this; a bench that never saw it has failed."""
        for at, said in self.seen[name]:
            if at >= since_s and said == status:
                return at - since_s
        raise SystemExit(f"frozen.py: {name} never was {status}: {self.seen[name]}")


async def measure() -> dict[str, Any]:
    """Freeze, watch, thaw, watch; in a mount namespace of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-frozen-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        with contextlib.ExitStack() as stack:
            servers = {word: stack.enter_context(fuse(place / name)) for word, name in SICK.items()}
            agent = stack.enter_context(running(config(place)))
            socket, watch = place / "agent.sock", Watch()
            await look(socket, watch, agent, 5.0)
            for word, server in servers.items():
                tell(server, word)
            frozen_s = now_s()
            await look(socket, watch, agent, FROZEN_S)
            for server in servers.values():
                tell(server, "well")
            thawed_s = now_s()
            await look(socket, watch, agent, 10.0)
            left = len(agent.children(recursive=True))
    return {
        "longest_gap_s": round(watch.longest_gap_s(frozen_s, thawed_s), 3),
        "longest_gap_before_s": round(watch.longest_gap_s(0.0, frozen_s), 3),
        **{f"{name}_unknown_s": round(watch.first(name, "UNKNOWN", frozen_s), 2) for name in SICK.values()},
        **{f"{name}_failed_s": round(watch.first(name, "FAILED", frozen_s), 2) for name in SICK.values()},
        **{f"{name}_recovered_s": round(watch.first(name, "OK", thawed_s), 2) for name in SICK.values()},
        "wrong_verdicts_of_healthy": sum(
            said != "OK" for name, looks in watch.seen.items() if name.startswith("well") for _, said in looks
        ),
        "most_helpers": watch.helpers,
        "helpers_after": left,
    }


def now_s() -> float:
    """The clock of the agent's results."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


async def look(socket: Path, watch: Watch, agent: psutil.Process, seconds: float) -> None:
    """Watch for so long."""
    until_s = now_s() + seconds
    while now_s() < until_s:
        watch.note(await control.call(socket, "checks"))
        watch.helpers = max(watch.helpers, len(agent.children(recursive=True)))
        await asyncio.sleep(POLL_S)


@contextlib.contextmanager
def fuse(point: Path) -> Iterator["subprocess.Popen[str]"]:
    """A filesystem that can be frozen."""
    point.mkdir()
    argv = [sys.executable, str(HERE / "fuse.py"), str(point)]
    server = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    if server.stdout.readline() != "mounted\n":
        raise SystemExit(f"frozen.py: nothing was mounted on {point}")
    try:
        yield server
    finally:
        tell(server, "well")
        subprocess.run(["umount", "--lazy", point], check=True)
        server.kill()
        server.wait()


def tell(server: "subprocess.Popen[str]", word: str) -> None:
    """Freeze or thaw it."""
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(word + "\n")
    server.stdin.flush()
    server.stdout.readline()


def config(place: Path) -> Path:
    """Mount the healthy ones, and have all measured."""
    points = {name: place / name for name in SICK.values()}
    for number in range(HEALTHY):
        points[f"well{number}"] = place / f"well{number}"
        points[f"well{number}"].mkdir()
        subprocess.run(["mount", "-t", "tmpfs", f"well{number}", points[f"well{number}"]], check=True)
    checks = [
        f'[[check]]\nname = "{name}"\ntype = "filesystem"\npath = "{point}"\ninterval_s = {INTERVAL_S}\n'
        f"deadline_s = {DEADLINE_S}\nfail_unanswered_s = {FAIL_UNANSWERED_S}\n"
        for name, point in points.items()
    ]
    head = (
        f'mode = "observe"\nnode = "n1"\nstate_dir = "{place}/state"\nsocket = "{place}/agent.sock"\n'
        '[log]\nlevel = "error"\n'
    )
    path = place / "agent.toml"
    path.write_text(head + "\n".join(checks))
    return path


@contextlib.contextmanager
def running(path: Path) -> Iterator[psutil.Process]:
    """The agent, ready."""
    argv = [sys.executable, str(HERE / "benchnode.py"), str(path)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if "healthy" not in process.stdout.readline():
        raise SystemExit("frozen.py: the agent did not start; its log is above")
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
