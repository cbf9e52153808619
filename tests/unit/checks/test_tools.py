# SPDX-License-Identifier: Apache-2.0
"""Checks that ask a program: dmidecode, mcelog, NVIDIA's tools, Moab's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from refloat_checks import dmesg, firmware, mcelog, moab, nvidia_tool
from refloat_checks.dmesg import DmesgLimits
from refloat_checks.facts import Facts
from refloat_checks.firmware import DmiLimits
from refloat_checks.mcelog import McelogLimits
from refloat_checks.moab import MoabLimits
from refloat_checks.nhc.checks.launching import Ended
from refloat_checks.nvidia_tool import NvidiaToolLimits
from refloat_contract.words import Status
from refloat_service.completed import Completed

DMI = """\
Handle 0x0000, DMI type 0, 26 bytes
BIOS Information
\tVersion: 2.19.1
\tCharacteristics:
\t\tPCI is supported
Handle 0x0011, DMI type 17, 40 bytes
Memory Device
\tSpeed: 4800 MT/s
""".splitlines()
MCELOG = """\
Memory errors
SOCKET 0 CHANNEL 1 DIMM 0
corrected memory errors:
\t100 total
\t{corrected} in 24h
uncorrected memory errors:
\t0 total
\t{uncorrected} in 24h
"""


@pytest.mark.parametrize(
    ("limits", "status", "message"),
    [
        ({"line": "*: Version: 2.19.1"}, Status.OK, "the firmware tells: BIOS Information: Version: 2.19.1"),
        ({"line": "*: Version: 2.20*"}, Status.FAILED, "the firmware tells nothing like *: Version: 2.20*"),
        (
            {"line": "*PCI*", "exists": False},
            Status.FAILED,
            "the firmware tells: BIOS Information: Characteristics: PCI is supported (should not)",
        ),
        ({"line": "*ISA*", "exists": False}, Status.OK, "the firmware tells nothing like *ISA*"),
        ({"line": "*4800*", "structure": 17}, Status.OK, "the firmware tells: Memory Device: Speed: 4800 MT/s"),
        ({"line": "*4800*", "structure": "BIOS Information"}, Status.FAILED, "the firmware tells nothing like *4800*"),
        ({"line": "*4800*", "handles": [0x11]}, Status.OK, "the firmware tells: Memory Device: Speed: 4800 MT/s"),
        ({"line": "*", "structure": 4}, Status.FAILED, "the firmware tells of no such structure"),
        ({"line": "*Version*", "raw": True}, Status.OK, "the firmware tells: Version: 2.19.1"),
    ],
)
def test_the_firmware_is_judged(limits: dict[str, Any], status: Status, message: str) -> None:
    finding = firmware.judge(DMI, DmiLimits.model_validate(limits), "d")

    assert (finding.status, finding.message) == (status, message)


def test_raw_lines_are_of_no_structure() -> None:
    with pytest.raises(ValidationError, match="of no structure"):
        DmiLimits(line="*", raw=True, structure=4)


@pytest.mark.parametrize(
    ("corrected", "uncorrected", "limits", "status", "message"),
    [
        ("9", "0", {}, Status.OK, "9 corrected and 0 uncorrected memory errors in a day"),
        ("10", "0", {}, Status.FAILED, "a memory module had 10 corrected errors in a day (limit 9)"),
        ("0", "1", {}, Status.FAILED, "a memory module had 1 uncorrected errors in a day (limit 0)"),
        ("many", "0", {}, Status.UNKNOWN, "mcelog counts 'many' corrected errors"),
        (
            "99",
            "5",
            {"max_corrected_per_day": 99, "max_uncorrected_per_day": 5},
            Status.OK,
            "99 corrected and 5 uncorrected memory errors in a day",
        ),
    ],
)
def test_memory_errors_of_a_day_are_compared(
    corrected: str, uncorrected: str, limits: dict[str, Any], status: Status, message: str
) -> None:
    said = MCELOG.format(corrected=corrected, uncorrected=uncorrected)

    finding = mcelog.judge(said, McelogLimits(**limits), "m")

    assert (finding.status, finding.message) == (status, message)


@pytest.mark.parametrize(
    ("tool", "rc", "status", "message"),
    [
        ("nvidia-smi", 0, Status.OK, "nvidia-smi finds all well"),
        ("nvidia-smi", 14, Status.FAILED, "nvidia-smi: InfoROM is corrupted"),
        ("nvidia-smi", 7, Status.FAILED, "nvidia-smi: Returned failure code 7"),
        ("nvidia-smi", 127, Status.UNKNOWN, "nvidia-smi cannot be run: gone"),
        ("nvidia-healthmon", 3, Status.FAILED, "nvidia-healthmon: returned failure code 3"),
        ("nvidia-healthmon", 126, Status.UNKNOWN, "nvidia-healthmon cannot be run: gone"),
    ],
)
def test_nvidias_tools_are_understood(tool: str, rc: int, status: Status, message: str) -> None:
    limits = NvidiaToolLimits.model_validate({"tool": tool})

    finding = nvidia_tool.judge(Ended(rc, "", "gone\n"), limits, "n")

    assert (finding.status, finding.message) == (status, message)


@pytest.mark.parametrize(
    ("limits", "argv"),
    [
        ({}, ("nvidia-smi",)),
        ({"tool": "nvidia-healthmon"}, ("nvidia-healthmon", "-e", "-v")),
        ({"program": "/opt/nv/smi", "arguments": ["-L"]}, ("/opt/nv/smi", "-L")),
    ],
)
def test_a_tool_has_its_usual_arguments(limits: dict[str, Any], argv: tuple[str, ...]) -> None:
    assert NvidiaToolLimits.model_validate(limits).argv == argv


@pytest.mark.parametrize(
    ("limits", "done", "status", "message"),
    [
        (
            {"ask": "scheduler", "version": "7.*"},
            Ended(0, "Version: 7.2.1 x"),
            Status.OK,
            "Moab's scheduler is as it should be",
        ),
        (
            {"ask": "scheduler", "version": "8.*"},
            Ended(0, "Version: 7.2.1 x"),
            Status.FAILED,
            "Moab version 7.2.1 != expected version 8.*",
        ),
        ({"ask": "scheduler", "alert": "*"}, Ended(0, "ALERT: disk"), Status.FAILED, "Moab Alert:  disk"),
        ({"ask": "scheduler"}, Ended(0, "ALERT: disk"), Status.OK, "Moab's scheduler is as it should be"),
        (
            {"ask": "resource_managers"},
            Ended(0, "RM[b]  State: Down"),
            Status.FAILED,
            'External resource manager "RM[b]" is in state "Down"',
        ),
        (
            {"ask": "torque"},
            Ended(0, "set server scheduling = False"),
            Status.FAILED,
            'Scheduling not active (set to "False") in TORQUE configuration',
        ),
        ({"ask": "torque"}, Ended(1, "", "refused"), Status.FAILED, "TORQUE gives no answer: refused"),
        ({"ask": "torque"}, Ended(127, "", "no qmgr"), Status.UNKNOWN, "TORQUE cannot be asked: no qmgr"),
    ],
)
def test_moab_is_judged(limits: dict[str, Any], done: Ended, status: Status, message: str) -> None:
    finding = moab.judge(done, MoabLimits.model_validate(limits), "m")

    assert (finding.status, finding.message) == (status, message)


def test_only_the_scheduler_has_a_version() -> None:
    with pytest.raises(ValidationError, match="are of ask"):
        MoabLimits.model_validate({"ask": "torque", "version": "*"})


async def test_the_programs_are_run(facts: Facts, add_program: Callable[..., Path], tmp_path: Path) -> None:
    add_program("tool", MCELOG.format(corrected=1, uncorrected=2))
    tool = str(tmp_path / "bin" / "tool")

    assert (await mcelog.look(facts, McelogLimits(argv=(tool,)), "m")).status is Status.FAILED
    assert (await nvidia_tool.look(facts, NvidiaToolLimits(program=tool), "m")).status is Status.OK
    assert (await dmesg.look(facts, DmesgLimits(lines=("!*DIMM 1*",), argv=(tool,)), "k")).status is Status.OK
    assert (await moab.look(facts, MoabLimits(ask=moab.Asked.TORQUE, argv=(tool, "x")), "m")).status is Status.OK


@pytest.mark.parametrize(
    ("status", "said", "lines", "found", "message"),
    [
        (0, "[1] a\n[2] b\n", ["*a", "!*c"], Status.OK, "the kernel's log is as it should be"),
        (0, "[1] a\n[2] b\n", ["!*b"], Status.FAILED, "the kernel's log says: [2] b"),
        (0, "[1] a\n", ["*c", "*d"], Status.FAILED, "the kernel's log has no line like *c, *d"),
        (1, "", ["!*b"], Status.UNKNOWN, "dmesg gives no log: Operation not permitted"),
    ],
)
def test_the_kernels_log_is_judged(status: int, said: str, lines: list[str], found: Status, message: str) -> None:
    completed = Completed(("dmesg",), status, said, "Operation not permitted\n" if status else "", 0.1)

    finding = dmesg.judge(completed, DmesgLimits.model_validate({"lines": lines}), "k")

    assert (finding.status, finding.message) == (found, message)


def test_a_kernels_log_that_nobody_asks_for_is_refused() -> None:
    with pytest.raises(ValidationError):
        DmesgLimits(lines=())


@pytest.mark.parametrize("says", ["connect: Connection refused", "mcelog: unknown option"])
async def test_without_counts_memory_errors_are_unknown(
    facts: Facts, add_program: Callable[..., Path], tmp_path: Path, says: str
) -> None:
    add_program("mcelog", says, status=1)

    finding = await mcelog.look(facts, McelogLimits(argv=(str(tmp_path / "bin" / "mcelog"),)), "m")

    assert finding.status is Status.UNKNOWN
