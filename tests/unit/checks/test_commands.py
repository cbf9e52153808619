# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest
from pydantic import ValidationError

from refloat_checks import plugins, registry
from refloat_checks.commands import CommandLimits, judge, look
from refloat_checks.facts import Facts
from refloat_checks.plugins import PluginLimits
from refloat_checks.runner import Runner
from refloat_contract.words import Status
from refloat_service.completed import Completed


def done(status: int, stdout: str = "", stderr: str = "") -> Completed:
    return Completed(("tool",), status, stdout, stderr, 0.1)


@pytest.mark.parametrize(
    ("completed", "limits", "status", "message"),
    [
        (done(0), {}, Status.OK, "tool ended with 0"),
        (done(3), {"exit_status": 3}, Status.OK, "tool ended with 3"),
        (done(1), {}, Status.FAILED, "tool ended with 1 (should be 0)"),
        (done(1, "", "no GPU\n"), {}, Status.FAILED, "tool ended with 1 (should be 0): no GPU"),
        (done(127, "", "env: x: No such file\n"), {}, Status.UNKNOWN, "tool cannot be run: env: x: No such file"),
        (done(126), {}, Status.UNKNOWN, "tool cannot be run: exit status 126"),
        (done(127), {"exit_status": 127}, Status.OK, "tool ended with 127"),
        (done(-9), {}, Status.UNKNOWN, "tool was killed by signal 9"),
        (done(0, "a\nstate: good\n"), {"output": "state: *"}, Status.OK, "tool ended with 0"),
        (done(0, "a\nmy state: good\n"), {"output": "state: *"}, Status.FAILED, "tool printed no line like state: *"),
        (done(0, "a\nb\n"), {"output": ["a", "!c"]}, Status.OK, "tool ended with 0"),
        (done(0, "a\nb\n"), {"output": ["a", "c", "d"]}, Status.FAILED, "tool printed no line like c, d"),
        (done(0, "a\nb\n"), {"output": "!b"}, Status.FAILED, "tool printed: b (should not)"),
        (done(0, "", "state: good"), {"output": "state: *"}, Status.FAILED, "tool printed no line like state: *"),
    ],
)
def test_a_command_is_judged(completed: Completed, limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(completed, CommandLimits(argv=("tool", "-x"), **limits), "c")

    assert (finding.status, finding.message) == (status, message)


@pytest.mark.parametrize(
    ("completed", "status", "message"),
    [
        (done(0, "\nall 8 GPUs there\nmore\n"), Status.OK, "all 8 GPUs there"),
        (done(0), Status.OK, "tool ended with 0"),
        (done(1, "GPU 3 lost\n"), Status.FAILED, "GPU 3 lost"),
        (done(1), Status.FAILED, "tool ended with 1"),
        (done(2, "no driver\n"), Status.UNKNOWN, "no driver"),
        (done(3), Status.UNKNOWN, "tool ended with 3"),
        (done(127, "", "env: no"), Status.UNKNOWN, "tool cannot be run: env: no"),
        (done(-15), Status.UNKNOWN, "tool was killed by signal 15"),
    ],
)
def test_a_plugin_is_judged(completed: Completed, status: Status, message: str) -> None:
    finding = plugins.judge(completed, PluginLimits(argv=("tool",)), "c")

    assert (finding.status, finding.message) == (status, message)


@pytest.mark.parametrize("argv", [(), ("",), ("A=b", "c"), ("a", "b\0c")])
def test_what_is_no_program_is_refused(argv: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        CommandLimits(argv=argv)
    with pytest.raises(ValidationError):
        PluginLimits(argv=argv)


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (("true",), Status.OK),
        (("false",), Status.FAILED),
        (("sh", "-c", "kill -9 $$"), Status.UNKNOWN),
    ],
)
async def test_a_real_command_is_run(facts: Facts, argv: tuple[str, ...], status: Status) -> None:
    assert (await look(facts, CommandLimits(argv=argv), "c")).status is status


@pytest.mark.parametrize("program", ["no-such-program-here", "/etc/passwd"])
async def test_a_command_that_cannot_be_run_is_unknown(facts: Facts, program: str) -> None:
    spec = registry.build([{"name": "c", "type": "command", "argv": [program]}])

    [result] = await Runner(spec, lambda: facts).run()

    assert result.finding.status is Status.UNKNOWN
    assert f"cannot run {program}: " in result.finding.message


async def test_a_real_plugin_is_run(facts: Facts) -> None:
    finding = await plugins.look(facts, PluginLimits(argv=("sh", "-c", "echo seen; exit 1")), "c")

    assert (finding.status, finding.message) == (Status.FAILED, "seen")
