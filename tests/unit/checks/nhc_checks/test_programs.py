"""Checks that run a program: what they make of how it ends, what it says, and of there being none."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from refloat_checks.nhc.checks import dmi, gpus, machine_checks, moab
from refloat_checks.nhc.checks.cmd import Wanted, judge_output, judge_status
from refloat_checks.nhc.checks.launching import Ended
from refloat_checks.nhc.native import NhcOutcome
from refloat_contract.words import Status

Ask = Callable[..., Awaitable[NhcOutcome]]


def wanted(*patterns: str, **fields: Any) -> Wanted:
    return Wanted("check_cmd_output", ("x", "y"), "x y", patterns=patterns, **fields)


@pytest.mark.parametrize(
    ("done", "asked", "text"),
    [
        (Ended(0, ""), wanted(), ""),
        (Ended(3, ""), wanted(), '3 returned by "x y".'),
        (Ended(3, ""), wanted(rc="3"), ""),
        (Ended(0, ""), wanted(rc="3"), '0 (expected 3) returned by "x y".'),
        (Ended(143, "", timed_out=True), wanted(), 'TIMEOUT after 5s for "x y"; subprocess terminated.'),
        (Ended(0, "a\n\nb\n"), wanted("b"), ""),
        (Ended(0, "a\n\nb\n"), wanted("!b"), '"b" matched at line 2 of "x y".'),
        (Ended(0, "a\n"), wanted("!"), '"" matched at line 2 of "x y".'),
        (Ended(0, "a\n"), wanted("c"), '"c" failed to match "x y" output.'),
        (Ended(0, "a\n"), wanted("a", "c", "d"), '"c" failed to match "x y" output (2/3 patterns failed).'),
        (Ended(1, "a\n"), wanted("c"), '1 returned by "x y".'),
        (Ended(0, 'say "$(id)"\n'), wanted("!say*", messages=("%L at %l",)), "say (id) at 1."),
    ],
)
def test_a_commands_answer_is_judged(done: Ended, asked: Wanted, text: str) -> None:
    outcome = judge_output(done, asked)

    assert outcome.message == (f"check_cmd_output:  {text}" if text else "")


async def test_a_command_is_split_at_blanks_and_given_to_no_shell(ask: Ask) -> None:
    outcome = await ask("check_cmd_output", "-m", "a; id | b 'c d'", "-e", "echo a; id | b 'c d'")

    assert outcome.rc == 0


async def test_a_command_is_killed_at_the_end_of_its_time(ask: Ask) -> None:
    outcome = await ask("check_cmd_output", "-t", "1", "sleep", "20")

    assert outcome.message == 'check_cmd_output:  TIMEOUT after 1s for "sleep 20"; subprocess terminated.'


def test_strict_mode_says_142_for_a_status_that_took_too_long() -> None:
    status = Wanted("check_cmd_status", ("x",), "x")

    assert judge_status(Ended(142, "", timed_out=True), status).message == 'check_cmd_status:  142 returned by "x".'


@pytest.mark.parametrize(
    ("check", "words", "message"),
    [
        ("check_cmd_output", (), "Syntax error:  No command specified"),
        ("check_cmd_output", ("-t", "31", "true"), "Command timeout 31 exceeds NHC timeout 30"),
        ("check_cmd_status", ("no-such-program", "x"), '127 returned by "no-such-program x".'),
        ("check_cmd_status", ("-r1", "false"), ""),
        ("check_cmd_status", ("type", "cd"), ""),
        ("check_cmd_status", ("-C", "check_mine", "false"), '1 returned by "false".'),
        ("check_cmd_dmesg", ("-e", "echo panic", "-m", "!panic"), '"panic" matched at line 1 of "echo panic".'),
    ],
)
async def test_commands_are_run(ask: Ask, check: str, words: tuple[str, ...], message: str) -> None:
    name = "check_mine" if "-C" in words else check

    assert (await ask(check, *words)).message == (f"{name}:  {message}" if message else "")


async def test_exported_variables_reach_the_command(ask: Ask) -> None:
    outcome = await ask("check_cmd_output", "-m", "SITE=hpc", "env", environment={"SITE": "hpc"})

    assert outcome.rc == 0


async def test_without_mcelog_memory_errors_are_unknown(ask: Ask) -> None:
    gone = {"MCELOG": "no-such-mcelog"}

    assert (await ask("check_hw_mcelog", variables=gone)).status is Status.UNKNOWN
    assert (await ask("check_hw_mcelog", variables=gone, strict=True)).rc == 0


async def test_a_daemon_that_refuses_is_logged_in_strict_mode(ask: Ask) -> None:
    recorded = {"program mcelog --client": Ended(1, "", "connect: Connection refused\n")}

    assert (await ask("check_hw_mcelog", recorded=recorded)).status is Status.UNKNOWN
    assert (
        (await ask("check_hw_mcelog", recorded=recorded, strict=True))
        .log[0]
        .startswith("check_hw_mcelog:  No mcelog daemon running on ")
    )


def test_without_limits_any_word_of_mcelog_is_a_failure() -> None:
    assert machine_checks.judge(Ended(0, "x\n"), "", "0").message == "check_hw_mcelog:  MCEs detected in log."


def test_the_firmwares_lines_stand_under_their_headings() -> None:
    raw = ["# dmidecode", "Handle 0x0001, DMI type 4, 40 bytes", "Processor", "\tFlags:", "\t\tFPU", "\tID: 1"]

    assert dmi.parse(raw) == (
        dmi.Structure(1, "4", "Processor", ("Processor: Flags:", "Processor: Flags: FPU", "Processor: ID: 1")),
    )


async def test_without_dmidecode_nothing_is_known(ask: Ask) -> None:
    recorded = {"program dmidecode": Ended(127, "")}

    assert (await ask("check_dmi_data_match", "!", "x", recorded=recorded)).status is Status.UNKNOWN
    assert (await ask("check_dmi_raw_data_match", "!", "x", recorded=recorded)).status is Status.UNKNOWN
    assert (await ask("check_dmi_raw_data_match", "!", "x", recorded=recorded, strict=True)).rc == 0
    assert (await ask("check_dmi_data_match", "x", recorded=recorded, strict=True)).message == (
        "check_dmi_data_match:  No valid DMI handles found"
    )


@pytest.mark.parametrize(
    ("rc", "text"),
    [
        (0, ""),
        (9, "NVIDIA driver not loaded"),
        (15, "The GPU has fallen off the bus or has otherwise become inaccessible"),
        (139, "Caught fatal signal 11"),
        (7, "Returned failure code 7"),
    ],
)
def test_nvidia_smis_codes_are_translated(rc: int, text: str) -> None:
    outcome = gpus.judge_smi(Ended(rc, "said\n"), "nvidia-smi")

    assert outcome.message == (f"check_nvsmi_healthmon:  nvidia-smi:  {text}" if text else "")


@pytest.mark.parametrize(
    ("rc", "strict", "text"),
    [
        (127, False, "nvidia-healthmon not found or not runnable."),
        (139, False, "nvidia-healthmon caught fatal signal 11"),
        (139, True, "nvidia-healthmon caught fatal signal 12"),
        (3, False, "nvidia-healthmon returned failure code 3"),
    ],
)
def test_healthmons_codes_are_translated(rc: int, *, strict: bool, text: str) -> None:
    outcome = gpus.judge_healthmon(Ended(rc, ""), "nvidia-healthmon", strict=strict)

    assert outcome.message == f"check_nv_healthmon:  {text}"


async def test_a_tool_is_run_once_per_pass(ask: Ask, tmp_path: Any) -> None:
    script = tmp_path / "smi"
    script.write_text("#!/bin/sh\nexit 14\n")
    script.chmod(0o755)

    outcome = await ask("check_nvsmi_healthmon", variables={"NVIDIA_SMI_HEALTHMON": str(script)})

    assert outcome.message == f"check_nvsmi_healthmon:  {script}:  InfoROM is corrupted"


def test_moab_is_judged_by_version_and_alerts() -> None:
    lines = ["Moab Server  Version: 7.2.1 (x)", "ALERT:  disk is full"]

    assert moab.judge_sched(lines, "7.2.*", "").rc == 0
    assert moab.judge_sched(lines, "8.*", "").message.endswith("Moab version 7.2.1 != expected version 8.*")
    assert moab.judge_sched(lines, "", "*disk*").message == "check_moab_sched:  Moab Alert:  disk is full"


@pytest.mark.parametrize(
    ("line", "rc"),
    [("RM[base]  State: Down", 1), ("RM[base]  State: Active", 0), ("RM[internal]  State: Down", 0)],
)
def test_moabs_resource_managers_are_judged(line: str, rc: int) -> None:
    assert moab.judge_rm([line]).rc == rc


def test_torque_must_schedule() -> None:
    assert moab.judge_torque(["set server scheduling = False"]).message == (
        'check_moab_torque:  Scheduling not active (set to "False") in TORQUE configuration'
    )
    assert moab.judge_torque(["set server scheduling = True"]).rc == 0


async def test_moabs_command_is_run(ask: Ask) -> None:
    variables = {"MDIAG_CMD": "echo ALERT: RM[b]  State: Down"}

    assert (await ask("check_moab_sched", "-a", "RM*", variables=variables)).rc == 1
    assert (await ask("check_moab_rm", "-m", "*State*", variables=variables)).rc == 0
    assert (await ask("check_moab_rm", "-m", "*State*", variables=variables, strict=True)).rc == 1
