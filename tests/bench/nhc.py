# SPDX-License-Identifier: Apache-2.0
"""What one health pass costs: NHC and refloat, side by side, on the same configuration and the same processes.

Run by `make bench-nhc`, as root: each size has private pid, net, mount and uts namespaces. NHC is measured where it is
installed or NHC_DIR names its source; else the figures recorded for it stand in, and the table says so.
"""

import argparse
import asyncio
import fcntl
import json
import os
import re
import resource
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from refloat_checks import facts, hardware
from refloat_checks.nhc.live import NhcConf
from refloat_checks.probes import ProbePool
from refloat_checks.proc import Roots
from refloat_checks.runner import Runner
from refloat_service import logs
from refloat_service.control import ControlServer

SIZES: Final = (100, 400, 1500)
RECORDED: Final = {
    "100": {"cpu_ms": 70.0, "wall_ms": 85.0, "forks": 11, "syscalls": 13000},
    "400": {"cpu_ms": 100.0, "wall_ms": 120.0, "forks": 11, "syscalls": 21240},
    "1500": {"cpu_ms": 220.0, "wall_ms": 231.0, "forks": 11, "syscalls": 51028},
}
GOALS_MS: Final = {"agent": {"100": 3.0, "1500": 15.0}, "oneshot": {"100": 60.0, "400": 60.0, "1500": 60.0}}
TITLES: Final = ("/usr/sbin/sshd", "/usr/sbin/cron", "/usr/sbin/munged")
UNSHARE: Final = ("unshare", "--mount", "--pid", "--net", "--uts", "--fork", "--kill-child", "--mount-proc")
SOCKET: Final = Path("/run/refloat/agent.sock")
HERE: Final = Path(__file__).parent
_CLONE: Final = re.compile(r"\b(?:clone3?|v?fork)\((?!.*CLONE_THREAD)")
_TOTAL: Final = re.compile(r"^100\.00\s.*?\s(\d+)(?:\s+\d+)?\s+total$", re.MULTILINE)

Figures = dict[str, float | int | None]


def main() -> None:
    """Measure all sizes, print the table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inner", type=int)
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    if options.inner is not None:
        logs.configure("console", "warning")
        json.dump(measure(options.inner, options.runs), sys.stdout)
        return
    found: dict[str, dict[str, Figures]] = {}
    for size in SIZES:
        argv = [*UNSHARE, sys.executable, __file__, "--inner", str(size), "--runs", str(options.runs)]
        done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
        for who, figures in json.loads(done.stdout).items():
            found.setdefault(who, {})[str(size)] = figures
    recorded = "nhc" not in found
    report({"nhc": RECORDED, **found} if recorded else found, recorded=recorded)


def report(found: dict[str, Any], *, recorded: bool) -> None:
    """Print the table and write build/bench/nhc.json."""
    print(f"{'':24}{'processes':>10}{'CPU ms':>10}{'wall ms':>10}{'forks':>8}{'syscalls':>10}{'NHC/it':>8}  goal")
    for who, sizes in found.items():
        name = f"{who} (recorded)" if who == "nhc" and recorded else who
        for size, figures in sizes.items():
            cells = [figures.get(key) for key in ("cpu_ms", "wall_ms", "forks", "syscalls")]
            shown = ["-" if cell is None else f"{cell:g}" for cell in cells]
            goal = GOALS_MS.get(who, {}).get(size)
            met = "" if goal is None else f"<= {goal:g} ms: {'met' if figures['cpu_ms'] <= goal else 'MISSED'}"
            # Figures of another machine say nothing of how many times less is used here.
            ratio = "-" if recorded or who == "nhc" else f"{found['nhc'][size]['cpu_ms'] / figures['cpu_ms']:.1f}"
            print(f"{name:24}{size:>10}{shown[0]:>10}{shown[1]:>10}{shown[2]:>8}{shown[3]:>10}{ratio:>8}  {met}")
    if recorded:
        print("NHC is not here: set NHC_DIR to its source to measure it beside refloat.")
    place = Path("build/bench/nhc.json")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({**found, "nhc_recorded": recorded}, indent=2) + "\n")


def measure(size: int, runs: int) -> dict[str, Figures]:
    """Measure everything among so many processes; in its own namespaces."""
    crowd = populate(size)
    try:
        with tempfile.TemporaryDirectory() as place:
            conf = Path(place, "nhc.conf")
            conf.write_text(filled_in())
            # An installed command has its byte code, whatever the environment of who measures says.
            os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
            os.environ["PYTHONPYCACHEPREFIX"] = str(Path(place, "bytecode"))
            found = {"agent": asyncio.run(agent(conf, runs)), "oneshot": commands(oneshot(conf), runs)}
            found["oneshot_with_agent"] = asyncio.run(beside_agent(conf, runs))
            if program := nhc_program(conf):
                found["nhc"] = commands(program, runs)
            return found
    finally:
        for process in crowd:
            process.kill()


def populate(size: int) -> list[subprocess.Popen[bytes]]:
    """Make the namespaces a small node: its name, loopback, /run, a listening ssh port, daemons and sleepers."""
    socket.sethostname("n0001")
    raise_loopback()
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", "/run"], check=True)
    subprocess.run(["ip", "link", "add", "eth0", "type", "dummy"], check=False, stderr=subprocess.DEVNULL)
    listener = "import socket,time; s=socket.create_server(('127.0.0.1',22)); time.sleep(1e6)"
    crowd = [subprocess.Popen(["sshd-listener", "-c", listener], executable=sys.executable)]
    crowd += [subprocess.Popen([title, "100000"], executable="/bin/sleep") for title in TITLES]
    crowd += [subprocess.Popen(["sleep", "100000"]) for _ in range(size - len(crowd))]
    time.sleep(0.5)
    return crowd


def raise_loopback() -> None:
    """Bring up lo (netdevice(7)); without ip(8), which not every machine has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sH14s", b"lo", 0x1 | 0x40, b""))


def filled_in() -> str:
    """The configuration with this machine's figures."""
    cpus = hardware.parse_cpuinfo(Path("/proc/cpuinfo").read_text())
    memory = hardware.parse_meminfo(Path("/proc/meminfo").read_text())
    device = "eth0" if "eth0:" in Path("/proc/net/dev").read_text() else "lo"
    # NHC needs ping(8); where it is not installed both look at a file instead.
    last = "check_net_ping -c 1 -W 1 127.0.0.1" if shutil.which("ping") else "check_file_test -e /"
    return (HERE / "nhc.conf").read_text().format(
        sockets=cpus.sockets, cores=cpus.cores, threads=cpus.threads, ram_kb=memory.ram_kb, swap_kb=memory.swap_kb,
        device=device, last=last,
    )  # fmt: skip


class Forks:
    """Counts the processes that this program starts."""

    EVENTS: Final = frozenset({"os.fork", "os.forkpty", "os.posix_spawn", "subprocess.Popen"})

    def __init__(self) -> None:
        self.count = 0
        sys.addaudithook(self._hear)

    def _hear(self, event: str, _: tuple[Any, ...]) -> None:
        self.count += event in self.EVENTS


async def agent(conf: Path, runs: int) -> Figures:
    """Measure passes in a warm process, as in the running agent; its helpers' time counts too."""
    forks = Forks()
    live = NhcConf.load(conf)
    pool = ProbePool()
    runner = Runner(live.specs(), facts.source(Roots(), pool), find_look=live.look_of)
    for _ in range(3):
        must_be_good(await runner.run())
    cpu, wall, before = [], [], forks.count
    for _ in range(runs):
        began, began_cpu = time.perf_counter(), cpu_s(pool)
        await runner.run()
        wall.append(time.perf_counter() - began)
        cpu.append(cpu_s(pool) - began_cpu)
    started = forks.count - before
    syscalls = await traced_agent(runner, pool)
    await pool.aclose()
    return {**figures(cpu, wall), "forks": started / runs, "syscalls": syscalls}


async def traced_agent(runner: Runner, pool: ProbePool, passes: int = 5) -> int | None:
    """System calls of one pass in this process and its helpers by strace, where it is installed."""
    if shutil.which("strace") is None:
        return None
    pids = [os.getpid(), *(helper.pid for helper in pool._all if helper.alive)]
    with tempfile.NamedTemporaryFile("r") as out:
        attached = [argument for pid in pids for argument in ("-p", str(pid))]
        argv = ["strace", "-f", "-c", "-o", out.name, *attached]
        with subprocess.Popen(argv, stderr=subprocess.PIPE) as tracer:  # noqa: ASYNC220 - nothing else runs here
            # It says once for each process that it is attached.
            await asyncio.to_thread(lambda: [tracer.stderr.readline() for _ in pids] if tracer.stderr else None)
            for _ in range(passes):
                await runner.run()
            tracer.terminate()
        total = _TOTAL.search(out.read())
    return round(int(total[1]) / passes) if total else None


def must_be_good(results: Any) -> None:
    """A benchmark of failing checks measures nothing."""
    bad = [f"{r.finding.check}: {r.finding.message}" for r in results if r.finding.status != "OK"]
    if bad:
        sys.stderr.write("not OK: " + "; ".join(bad) + "\n")


def cpu_s(pool: ProbePool) -> float:
    """CPU time of this process and of its helpers, in seconds (clock_getcpuclockid(3))."""
    helpers = sum(time.clock_gettime((~helper.pid << 3) | 2) for helper in pool._all if helper.alive)
    return time.process_time() + helpers


def oneshot(conf: Path) -> list[str]:
    """The command without an agent."""
    start = "from refloat_cli.nhc.main import main; main()"
    return [sys.executable, "-c", start, "-l", str(conf.with_name("nhc.log")), "-c", str(conf), "--local"]


async def beside_agent(conf: Path, runs: int) -> Figures:
    """Measure the command where an agent answers it."""
    live = NhcConf.load(conf)
    pool = ProbePool()
    await Runner(live.specs(), facts.source(Roots(), pool), find_look=live.look_of).run()
    await pool.aclose()
    last = live.last
    findings = [finding.as_dict() for finding in last.result.findings] if last is not None else []

    async def answer(_: dict[str, Any]) -> dict[str, Any]:
        return {"acts": True, "conf": "/etc/nhc/nhc.conf", "findings": findings, "variables": {}}

    SOCKET.parent.mkdir(parents=True)
    server = asyncio.create_task(ControlServer(SOCKET, {"nhc": answer}).serve())
    argv = [sys.executable, "-c", "from refloat_cli.nhc.main import main; main()", "-l", "/run/nhc.log"]
    try:
        return await asyncio.to_thread(commands, argv, runs)
    finally:
        server.cancel()


def nhc_program(conf: Path) -> list[str] | None:
    """NHC itself, from NHC_DIR or as it is installed."""
    place = os.environ.get("NHC_DIR")
    program = str(Path(place, "nhc")) if place else "/usr/sbin/nhc"
    if not Path(program).exists() or b"bash" not in Path(program).read_bytes()[:64]:
        return None
    folder = ["-D", place] if place else []
    return [program, *folder, "-c", str(conf), "MARK_OFFLINE=0", f"LOGFILE={conf.with_name('nhc.log')}"]


def commands(argv: list[str], runs: int) -> Figures:
    """Measure a command that is started anew each time."""
    run_once(argv)
    measured = [run_once(argv) for _ in range(runs)]
    return {**figures([cpu for cpu, _ in measured], [wall for _, wall in measured]), **traced(argv)}


def run_once(argv: list[str]) -> tuple[float, float]:
    """CPU and wall seconds of one run with all that it waited for."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(argv, check=False, capture_output=True, text=True, start_new_session=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.stderr.write(f"{argv[0]} ended with {done.returncode}: {done.stdout}{done.stderr}\n")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def traced(argv: list[str]) -> Figures:
    """Forks and system calls by strace, where it is installed."""
    if shutil.which("strace") is None:
        return {"forks": None, "syscalls": None}
    with tempfile.TemporaryDirectory() as place:
        out = Path(place, "trace")
        launch: Callable[[list[str]], Any] = lambda how: subprocess.run(  # noqa: E731 - twice, here only
            ["setsid", "-w", "strace", "-D", "-f", *how, "-o", str(out), *argv], check=False, capture_output=True
        )
        launch(["-e", "trace=clone,clone3,fork,vfork"])
        forks = len(_CLONE.findall(out.read_text()))
        launch(["-c"])
        time.sleep(0.3)
        total = _TOTAL.search(out.read_text())
    return {"forks": forks, "syscalls": int(total[1]) if total else None}


def figures(cpu: list[float], wall: list[float]) -> Figures:
    """Medians in milliseconds."""
    return {
        "cpu_ms": round(statistics.median(cpu) * 1000, 2),
        "wall_ms": round(statistics.median(wall) * 1000, 2),
    }


if __name__ == "__main__":
    main()
