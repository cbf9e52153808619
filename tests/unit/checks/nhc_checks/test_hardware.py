"""Processors, memory, ports and devices, as the kernel tells them."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from refloat_checks import hardware
from refloat_checks.hardware import IbPort, Infiniband, Memory, Processors, parse_cpuinfo, parse_meminfo
from refloat_checks.nhc.native import NhcOutcome
from refloat_checks.proc import Roots
from refloat_contract.words import Status

Ask = Callable[..., Awaitable[NhcOutcome]]
PROCESSOR = (
    "processor\t: {n}\nmodel name\t: X\ncpu MHz\t\t: 2000.1\nphysical id\t: {s}\nsiblings\t: {t}\ncpu cores\t: {c}\n"
)
MEMINFO = "MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 900 kB\nBuffers: 20 kB\nCached: 30 kB\nSwapCached: 99 kB\n"
ANY = {"memory": Memory(1000, 60, 0, 0)}


def cpuinfo(threads: int, sockets: int, per_socket: int, cores: int) -> str:
    rows = (PROCESSOR.format(n=n, s=n % sockets, t=per_socket, c=cores) for n in range(threads))
    return "flags\t\t: fpu\n\n".join(rows) + "\n"


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        (cpuinfo(8, 2, 4, 2), Processors(2, 4, 8)),
        (cpuinfo(1024, 8, 128, 64) * 3, Processors(8, 512, 1024)),
        ("processor\t: 0\nBogoMIPS\t: 1\nprocessor\t: 1\n", Processors(2, 2, 2)),
        ("", Processors(1, 1, 1)),
    ],
)
def test_processors_are_counted(text: str, counted: Processors) -> None:
    assert parse_cpuinfo(text) == counted


async def test_cpuinfo_of_20000_lines_is_read_once(ask: Ask, roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    (roots.proc / "cpuinfo").write_text(cpuinfo(2560, 2, 1280, 640))
    lines: list[int] = []
    parse = hardware.parse_cpuinfo

    def counted(text: str) -> Processors:
        lines.append(text.count("\n"))
        return parse(text)

    monkeypatch.setattr(hardware, "parse_cpuinfo", counted)

    outcome = await ask("check_hw_cpuinfo", "2", "1280", "2560")

    assert (outcome.rc, len(lines), lines[0] > 20_000) == (0, 1, True)


def test_free_memory_is_counted_as_nhc_does() -> None:
    assert parse_meminfo(MEMINFO + "SwapTotal: 7 kB\nSwapFree: 5 kB\n") == Memory(1000, 60, 7, 5)


def test_a_meminfo_without_a_total_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not tell"):
        parse_meminfo("MemFree: 10 kB\n")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("1000", "1000"), Status.OK),
        (("1000",), Status.FAILED),
        (("2000", "2000", "50%"), Status.FAILED),
        (("1500", "2000", "50%"), Status.OK),
        (("1GiB", "2g"), Status.UNKNOWN),
        (("1", "99.9g"), Status.UNKNOWN),
        (("1", "9g", "3,5%"), Status.UNKNOWN),
    ],
)
async def test_an_amount_of_memory_is_compared(ask: Ask, words: tuple[str, ...], status: Status) -> None:
    assert (await ask("check_hw_physmem", *words, recorded=ANY)).status is status


async def test_a_count_that_is_no_number_is_a_configuration_error(ask: Ask) -> None:
    recorded = {"processors": Processors(2, 4, 8)}

    assert (await ask("check_hw_cpuinfo", "two", recorded=recorded)).status is Status.UNKNOWN
    assert (await ask("check_hw_cpuinfo", "1.5", recorded=recorded, strict=True)).rc == 0


def test_infiniband_ports_are_read(roots: Roots) -> None:
    place = roots.sys / "class" / "infiniband" / "mlx5_0" / "ports" / "1"
    place.mkdir(parents=True)
    files: dict[str, str] = {"state": "4: ACTIVE\n", "phys_state": "5: LinkUp\n", "rate": "200 Gb/sec (4X HDR)\n"}
    for name, text in files.items():
        (place / name).write_text(text)

    assert hardware.read_infiniband(roots) == Infiniband((IbPort("mlx5_0:1", "ACTIVE", "LinkUp", "200"),), 0)


async def test_without_the_interface_of_its_tools_infiniband_fails(ask: Ask) -> None:
    assert "Version mismatch" in (await ask("check_hw_ib", "200")).message


async def test_a_table_that_cannot_be_understood_is_unknown(ask: Ask, roots: Roots) -> None:
    (roots.proc / "meminfo").write_text("MemFree: 10 kB\n")

    assert (await ask("check_hw_physmem_free", "1")).status is Status.UNKNOWN


@pytest.mark.parametrize(("device", "rc"), [("eth0", 0), ("eth*", 0), ("ib0", 1), ("", 1)])
async def test_network_devices_are_looked_for(ask: Ask, roots: Roots, device: str, rc: int) -> None:
    (roots.proc / "net").mkdir()
    (roots.proc / "net" / "dev").write_text("Inter-| x\n face |y\n    lo: 1 2\n  eth0:3 4\n")

    assert (await ask("check_hw_eth", device)).rc == rc


async def test_a_kernel_without_modules_has_none_loaded(ask: Ask) -> None:
    recorded: dict[str, Any] = {"network devices": ("myri0",)}

    assert (await ask("check_hw_gm", "myri0", recorded=recorded)).status is Status.FAILED


async def test_what_cannot_be_read_is_unknown_for_this_check_alone(ask: Ask) -> None:
    outcome = await ask("check_ps_loadavg", "5")

    assert (outcome.status, outcome.message[:44]) == (
        Status.UNKNOWN,
        "check_ps_loadavg:  Could not be looked at:  ",
    )
