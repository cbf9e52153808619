# SPDX-License-Identifier: Apache-2.0
"""Read what the kernel tells of the machine: processors, memory, InfiniBand ports, modules, network devices."""

from __future__ import annotations

from refloat_checks.proc import Roots, read_text
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Final

    from refloat_checks.facts import Facts

_MEMORY: Final = ("MemTotal", "MemFree", "Buffers", "Cached", "SwapTotal", "SwapFree")


@record
class Processors:
    """Counts of what is online, as `/proc/cpuinfo` tells them; per socket as its last processor says."""

    sockets: int
    cores: int
    threads: int


@record
class Memory:
    """Memory in kB. Free RAM is what is unused or only buffers and page cache, as `free` of old counted it."""

    ram_kb: int
    ram_free_kb: int
    swap_kb: int
    swap_free_kb: int


@record
class IbPort:
    """A port of an InfiniBand or RoCE device; named `mlx5_0:1`, its rate in Gb/s.

    States are the words behind the kernel's number: `ACTIVE`, `LinkUp`.
    """

    name: str
    state: str
    phys_state: str
    rate: str


@record
class Infiniband:
    """All ports, and the version of the interface through which tools talk to them; 0 if it is not there."""

    ports: tuple[IbPort, ...]
    mad_abi: int


def parse_cpuinfo(text: str) -> Processors:
    """Count processors; architectures that tell of no sockets have one per processor."""
    threads = 0
    sockets: set[str] = set()
    cores = siblings = ""
    for line in text.split("\n"):
        # Told by their first letters: of thirty lines for each processor these four are wanted.
        head = line[:4]
        if head == "proc" and line.startswith("processor\t"):
            threads += 1
        elif head == "phys":
            sockets.add(_value(line))
        elif head == "sibl":
            siblings = _value(line)
        elif head == "cpu " and line.startswith("cpu cores"):
            cores = _value(line)
    if threads and not sockets:
        return Processors(threads, threads, threads)
    if not sockets or not cores:
        return Processors(1, 1, 1)
    return Processors(len(sockets), len(sockets) * int(cores), len(sockets) * int(siblings or 0))


def _value(line: str) -> str:
    return line.rpartition(":")[2].strip()


def parse_meminfo(text: str) -> Memory:
    """Read `/proc/meminfo`. Raises ValueError if it does not tell how much RAM there is."""
    kb = dict.fromkeys(_MEMORY, 0)
    for line in text.split("\n"):
        name, _, rest = line.partition(":")
        if name in kb:
            kb[name] = int(rest.split(None, 1)[0])
    if not kb["MemTotal"]:
        raise ValueError("/proc/meminfo does not tell how much memory there is")
    return Memory(kb["MemTotal"], kb["MemFree"] + kb["Buffers"] + kb["Cached"], kb["SwapTotal"], kb["SwapFree"])


def parse_net_dev(text: str) -> tuple[str, ...]:
    """Name the network devices of `/proc/net/dev`."""
    return tuple(line.partition(":")[0].strip() for line in text.split("\n") if ":" in line)


def parse_modules(text: str) -> tuple[str, ...]:
    """Name the loaded modules of `/proc/modules`."""
    return tuple(line.split(" ", 1)[0] for line in text.split("\n") if line)


def read_infiniband(roots: Roots) -> Infiniband:
    """Read all InfiniBand ports."""
    import pathlib  # noqa: PLC0415 - a node without InfiniBand needs none of it

    sys = pathlib.Path(roots.sys)
    devices = sys / "class" / "infiniband"
    ports = tuple(_read_port(place) for place in sorted(devices.glob("*/ports/*")))
    abi = sys / "class" / "infiniband_mad" / "abi_version"
    return Infiniband(ports, int(read_text(abi).strip() or 0) if abi.is_file() else 0)


def _read_port(place: Path) -> IbPort:
    # These files read as in: 4 ACTIVE, with a colon behind the number, and 200 Gb per second (4X HDR).
    state, phys_state = (_word_after_number(read_text(place / name)) for name in ("state", "phys_state"))
    rate = (read_text(place / "rate").split() or [""])[0]
    return IbPort(f"{place.parts[-3]}:{place.name}", state, phys_state, rate)


def _word_after_number(text: str) -> str:
    words = text.replace(":", " ").split()
    return words[1] if len(words) > 1 else ""


async def processors(facts: Facts) -> Processors:
    """Count the processors, once per pass."""
    return await facts.read("processors", lambda: parse_cpuinfo(read_text(facts.roots.proc / "cpuinfo")))


async def memory(facts: Facts) -> Memory:
    """Measure the memory, once per pass."""
    return await facts.read("memory", lambda: parse_meminfo(read_text(facts.roots.proc / "meminfo")))


async def infiniband(facts: Facts) -> Infiniband:
    """Look at the InfiniBand ports, once per pass."""
    return await facts.read("InfiniBand ports", lambda: read_infiniband(facts.roots))


async def network_devices(facts: Facts) -> tuple[str, ...]:
    """Name the network devices, once per pass."""
    return await facts.read("network devices", lambda: parse_net_dev(read_text(facts.roots.proc / "net" / "dev")))


async def modules(facts: Facts) -> tuple[str, ...]:
    """Name the loaded kernel modules, once per pass; a kernel that knows no modules has loaded none."""
    return await facts.read("kernel modules", lambda: _read_modules(facts.roots))


def _read_modules(roots: Roots) -> tuple[str, ...]:
    try:
        return parse_modules(read_text(roots.proc / "modules"))
    except FileNotFoundError:
        return ()
