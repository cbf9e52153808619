# SPDX-License-Identifier: Apache-2.0
"""check_cmd_output, _status, _dmesg: how a command ends, and what it prints."""

from __future__ import annotations

from refloat_checks.lines import Unwanted, compare
from refloat_checks.nhc.checks.launching import TERMINATED, Ended, launch
from refloat_checks.nhc.checks.numbers import whole
from refloat_checks.nhc.checks.options import Options, getopts
from refloat_checks.nhc.checks.patterns import require_meaning
from refloat_checks.nhc.native import PASSED, BadWords, NativeCheck, NhcOutcome, NhcRun, failed
from refloat_contract.records import record, replace

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

_OUTPUT: Final = "check_cmd_output"
_STATUS: Final = "check_cmd_status"
_DMESG: Final = "check_cmd_dmesg"
_TIMEOUT: Final = "5"
_ALARM: Final = 142
# Commands that only the shell knows.
BUILTINS: Final = frozenset({":", ".", "command", "declare", "eval", "source", "type", "ulimit", "umask", "[["})


@record
class Wanted:
    """What a command must answer: its name in messages, a status, match strings, and messages of one's own.

    What it prints is left in the shell's `array`.
    """

    name: str
    argv: tuple[str, ...]
    command: str
    timeout: str = _TIMEOUT
    rc: str = ""
    patterns: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    array: str = ""

    def message(self, number: int, default: str) -> str:
        """The message for the pattern of this number."""
        return self.messages[number] if number < len(self.messages) and self.messages[number] else default


def judge_output(done: Ended, wanted: Wanted) -> NhcOutcome:
    """Compare what a command printed and how it ended with what is asked for, in this order."""
    # Behind the last line NHC looks at one more, which is empty.
    lines = [*done.lines, ""] if wanted.patterns else []
    found = compare(lines, wanted.patterns)
    if found.unwanted is not None:
        return _unwanted(found.unwanted, wanted)
    if (ended := judge_status(done, wanted)) is not PASSED:
        return ended
    return _missing(found.missing, wanted) if found.missing else PASSED


def _unwanted(found: Unwanted, wanted: Wanted) -> NhcOutcome:
    text = wanted.message(found.place, '"%m" matched at line %l of "%c"')
    shown = found.line.translate(dict.fromkeys(map(ord, '"`$')))
    pattern = wanted.patterns[found.place][1:]
    for mark, value in (("%m", pattern), ("%l", str(found.number)), ("%L", shown), ("%c", wanted.command)):
        text = text.replace(mark, value)
    return failed(wanted.name, f"{text}.")


def judge_status(done: Ended, wanted: Wanted) -> NhcOutcome:
    """Compare how a command ended with what is asked for."""
    if done.rc == int(wanted.rc or 0):
        return PASSED
    if done.timed_out and done.rc != _ALARM:
        text = f'TIMEOUT after {wanted.timeout}s for "{wanted.command}"; subprocess terminated.'
        return failed(wanted.name, text)
    expected = f" (expected {wanted.rc})" if wanted.rc else ""
    return failed(wanted.name, f'{done.rc}{expected} returned by "{wanted.command}".')


def _missing(missing: Sequence[int], wanted: Wanted) -> NhcOutcome:
    only = len(wanted.patterns) == 1
    counted = "" if only else " (%f patterns failed)"
    text = wanted.message(missing[0], f'"%m" failed to match "%c" output{counted}')
    text = text.replace("%m", wanted.patterns[missing[0]]).replace("%c", wanted.command)
    if not only:
        text = text.replace("%f", f"{len(missing)}/{len(wanted.patterns)}")
    return failed(wanted.name, f"{text}.")


def _read_words(name: str, words: Sequence[str]) -> Wanted | NhcOutcome:
    given = getopts(name, ":C:M:O:e:m:r:t:", words)
    if isinstance(given, NhcOutcome):
        return given
    # Split at blanks and executed: NHC gives it to no shell, so quotes in it are plain characters.
    argv = tuple(given.last("e").split()) if given.last("e") else given.rest
    name = given.last("C", name)
    if not "".join(argv):
        return failed(name, "Syntax error:  No command specified")
    return _wanted(name, argv, given.last("e") or " ".join(argv), given)


def _wanted(name: str, argv: tuple[str, ...], command: str, given: Options) -> Wanted:
    array = given.last("O")
    # NHC would evaluate what is no name.
    if array and not (array.isascii() and array.isidentifier() and not array.startswith("_refloat")):
        raise BadWords(f"{array!r} is no name of a variable")
    timeout, rc = given.last("t", _TIMEOUT), given.last("r")
    return Wanted(name, argv, command, timeout, rc, given.all("m"), given.all("M"), array)


def _too_long(wanted: Wanted, run: NhcRun) -> NhcOutcome | None:
    limit = run.variable("TIMEOUT", "30")
    seconds = whole(wanted.timeout, "time-out", strict=run.strict)
    whole(wanted.rc or "0", "return code", strict=False)
    if wanted.timeout and seconds is not None and seconds > (whole(limit, "TIMEOUT", strict=run.strict) or 0):
        return failed(wanted.name, f"Command timeout {wanted.timeout} exceeds NHC timeout {limit}")
    return None


async def _ended(argv: Sequence[str], wanted: Wanted, run: NhcRun) -> Ended:
    """Run a program, or a function of the site's scripts: NHC runs both in its own shell."""
    timeout_s = float(whole(wanted.timeout, "time-out", strict=False) or 0) or None
    if run.functions is None or not run.functions.knows(argv[0]):
        return await launch(argv, run, timeout_s)
    done = await run.functions.call(argv, timeout_s)
    return Ended(TERMINATED if done.timed_out else done.rc, done.output, timed_out=done.timed_out)


async def run_output(name: str, words: Sequence[str], run: NhcRun) -> tuple[NhcOutcome, Ended]:
    """Run a command as check_cmd_output does, under another check's name."""
    nothing = Ended(0, "")
    wanted = _read_words(name, words)
    if isinstance(wanted, NhcOutcome):
        return wanted, nothing
    require_meaning(run, *(pattern.removeprefix("!") for pattern in wanted.patterns))
    too_long = _too_long(wanted, run)
    if too_long is not None:
        return too_long, nothing
    done = await _ended(wanted.argv, wanted, run)
    outcome = judge_output(done, wanted)
    return replace(outcome, output_to=wanted.array, output=tuple(done.lines)) if wanted.array else outcome, done


async def _output(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    return (await run_output(_OUTPUT, words, run))[0]


async def _dmesg(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    given = getopts(_DMESG, ":M:e:m:r:t:", words)
    if isinstance(given, NhcOutcome):
        return given
    options = [word for letter, argument in given.given if letter != "e" for word in (f"-{letter}", argument)]
    return (await run_output(_DMESG, [*options, "-e", given.last("e") or "dmesg"], run))[0]


async def _status(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    given = getopts(_STATUS, ":C:r:t:", words)
    if isinstance(given, NhcOutcome):
        return given
    wanted = _wanted(given.last("C", _STATUS), given.rest, " ".join(given.rest), given)
    too_long = _too_long(wanted, run)
    if too_long is not None:
        return too_long
    if not wanted.argv:
        # The shell has nothing to do, and does it.
        return judge_status(Ended(0, ""), wanted)
    argv = ("/bin/bash", "-c", '"$@"', "bash", *wanted.argv) if wanted.argv[0] in BUILTINS else wanted.argv
    done = await _ended(argv, wanted, run)
    if run.strict and done.timed_out:
        done = Ended(_ALARM, "", timed_out=True)
    return judge_status(done, wanted)


CHECKS: Final = (
    NativeCheck(_OUTPUT, _output),
    NativeCheck(_STATUS, _status),
    NativeCheck(_DMESG, _dmesg),
)
