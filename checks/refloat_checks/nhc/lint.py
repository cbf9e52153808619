# SPDX-License-Identifier: Apache-2.0
"""Finds the traps of NHC that an nhc.conf falls into: where, what NHC does, what refloat does, what to write."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from refloat_checks.nhc import conf, lint_checks, words
from refloat_checks.nhc.language import BadPattern
from refloat_checks.nhc.lint_checks import Remark
from refloat_checks.nhc.match import matches

_SHORT: Final = re.compile(r"([^\[\]{},]*)\[(\d+)-(\d+)\]")
_CHARACTERS: Final = re.compile(r"\[(?:\d+-\d\d+|\d\d+-\d+)\]")
_DIE_APOSTROPHE: Final = re.compile(r"""\bdie\b[^|;&]*"[^"]*'[^"]*\"""")
_QUOTED_RUN: Final = re.compile(r"""(['"])(?:(?!\1).)*?[ \t]{2,}(?:(?!\1).)*?\1""")


@dataclass(frozen=True, slots=True)
class Trap:
    """One trap: `line` and `column` count from 1."""

    line: int
    column: int
    remark: Remark

    def __str__(self) -> str:
        """Say it in one line."""
        said = self.remark
        return f"{self.line}:{self.column}: {said.what}. NHC: {said.nhc}. refloat: {said.refloat}. Write: {said.write}"


def lint(text: str, known: Collection[str]) -> list[Trap]:
    """Find the traps in the text of an nhc.conf. `known`: the names of all checks."""
    traps = [*_of_file(text), *_of_raw_lines(text), *_of_lines(text, known)]
    return sorted(traps, key=lambda trap: (trap.line, trap.column))


def _of_file(text: str) -> Iterator[Trap]:
    if text and not text.endswith("\n"):
        last = text.rpartition("\n")[2]
        if last.strip() and not last.lstrip().startswith("#"):
            yield Trap(
                text.count("\n") + 1,
                len(last) + 1,
                Remark("the last line has no line end", "ignores the line", "runs it", "a newline at its end"),
            )


def _of_raw_lines(text: str) -> Iterator[Trap]:
    for number, line in enumerate(text.split("\n"), start=1):
        bare = line.removesuffix("\r")
        comment = bare.lstrip().startswith("#")
        if line.endswith("\r") and not comment and bare.strip():
            what = "the line ends as on Windows"
            yield Trap(number, len(line), Remark(what, "the last word has a carriage return", "drops it", "LF only"))
        if comment and bare.endswith("\\"):
            what = "a comment ends with a backslash"
            yield Trap(
                number, len(bare), Remark(what, "takes the next line for comment too", "the same", "no backslash")
            )
        if not comment:
            yield from _backslashes(number, bare)


def _backslashes(number: int, line: str) -> Iterator[Trap]:
    at = line.find("\\")
    while 0 <= at < len(line) - 1:
        following = line[at + 1]
        if following != "\\":
            what = f"a single backslash stands before {following!r}"
            nhc = "drops the backslash when it reads the file"
            yield Trap(number, at + 1, Remark(what, nhc, "the same", f"\\\\{following}"))
        at = line.find("\\", at + 2)


def _of_lines(text: str, known: Collection[str]) -> Iterator[Trap]:
    before = lint_checks.Seen()
    starts = text.split("\n")
    whole = text if text.endswith("\n") or not text else text + "\n"
    seen = {line.number for line in conf.lines(whole)}
    for number, raw in conf.logical_lines(whole.replace("\r\n", "\n")):
        stripped = raw.strip(" \t")
        if number not in seen and stripped and not stripped.startswith("#"):
            what, write = "the target or the check is empty", "TARGET || CHECK"
            yield Trap(number, _column(starts, number, stripped), Remark(what, "ignores the line", "the same", write))
    for line in conf.lines(whole.replace("\r\n", "\n")):
        yield from _of_line(starts, line, known, before)


def _of_line(starts: list[str], line: conf.Line, known: Collection[str], seen: lint_checks.Seen) -> Iterator[Trap]:
    target_at = _column(starts, line.number, line.target)
    check_at = _column(starts, line.number, line.check, after=target_at + len(line.target))
    if line.target == line.check:
        what, nhc = "the line has no ||", "takes it for target and check at once, so it runs nowhere"
        yield Trap(line.number, target_at, Remark(what, nhc, "the same", f"* || {line.check}"))
        return
    for at, remark in _of_target(line.target):
        yield Trap(line.number, target_at + at, remark)
    for at, remark in _of_text(line.check):
        yield Trap(line.number, check_at + at, remark)
    for remark in lint_checks.remarks(line.check, words.parse(line.check), known, seen):
        yield Trap(line.number, check_at, remark)


def _of_target(target: str) -> Iterator[tuple[int, Remark]]:
    pattern = target.removeprefix("!")
    try:
        matches(target, "", strict=True)
    except BadPattern as error:
        nhc = "matches every host" if target.startswith("!") else "matches no host"
        if pattern == "/":
            nhc = "ends here with status 1, before any check"
        if pattern.startswith("{"):
            nhc += " (the rest of the list is lost)" if "," in pattern else ""
        doing = "UNKNOWN for this line, and runs the others" if pattern == "/" else "the same"
        yield error.column - 1, Remark(f"the target means nothing: {error.what}", nhc, doing, "a pattern that matches")
    if pattern.startswith("{"):
        yield from _short_ranges(target)
    elif found := _CHARACTERS.search(pattern) if not pattern.startswith("/") else None:
        nhc = f"takes {found[0]} for one character, so a longer number does not match"
        column = target.index(found[0])
        yield column, Remark(f"{found[0]} stands in a glob", nhc, "the same", "a range in braces: {n[01-10]}")
    elif not pattern.startswith("/") and ("," in pattern or " " in pattern):
        nhc = "takes it for one glob, which no host's name matches"
        yield 0, Remark("the target is a list without braces", nhc, "the same", "{n[01-10],login1}")


def _short_ranges(target: str) -> Iterator[tuple[int, Remark]]:
    for found in _SHORT.finditer(target):
        prefix, first, last = found.groups()
        if len(first) < len(last):
            left_out = f"{prefix}{first} to {prefix}{'9' * (len(last) - 1)}"
            nhc = f"wants {len(last)} digits, and leaves out {left_out}"
            write = f"{{{prefix}[{first}-{'9' * len(first)}],{prefix}[1{'0' * (len(last) - 1)}-{last}]}}"
            yield found.start(), Remark(f"the range {found[0]} begins with fewer digits", nhc, "the same", write)
        elif len(first) > len(last):
            nhc = f"wants {len(first)} digits, so {prefix}{last} itself does not match"
            yield found.start(), Remark(f"the range {found[0]} ends with fewer digits", nhc, "the same", "equal widths")


def _of_text(check: str) -> Iterator[tuple[int, Remark]]:
    if found := _QUOTED_RUN.search(check):
        yield found.start(), Remark("blanks follow each other inside quotes", "makes them one", "the same", "one blank")
    if found := _DIE_APOSTROPHE.search(check):
        what, nhc = "the message has an apostrophe", "fails to call its helper: the node is NOT drained"
        yield found.start(), Remark(what, nhc, "drains it with the message as it is", "nothing else")


def _column(starts: list[str], number: int, text: str, after: int = 1) -> int:
    # An escaped or joined line is found by as much of it as stands there.
    line = starts[number - 1] if number <= len(starts) else ""
    for size in (len(text), 8, 1):
        at = line.find(text[:size], max(0, after - 1))
        if at >= 0:
            return at + 1
    return after
