# SPDX-License-Identifier: Apache-2.0
"""Bash's patterns as `[[ text == pattern ]]` takes them: with extglob, and where POSIX leaves it open as bash does."""

from __future__ import annotations

from refloat_checks.nhc.language import (
    ANY,
    ANYTHING,
    CLASSES,
    NOTHING,
    BadPattern,
    Chars,
    Choice,
    Node,
    Not,
    NotEmpty,
    Repeat,
    Sequence,
    Span,
    literal,
    matcher,
)

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Final

_EXTENDED: Final = "?*+@!"
_LONGEST: Final = 1000


def parse(pattern: str) -> Node:
    """Read a pattern. What bash cannot read stands for itself.

    Raises BadPattern for brackets that bash reads in one way or another depending on the text, and for a pattern that
    nobody has written by hand: brackets that are never closed are looked for to its end, each anew.
    """
    if len(pattern) > _LONGEST:
        raise BadPattern(pattern[:_LONGEST], _LONGEST, f"a glob has at most {_LONGEST} characters")
    return _parse(pattern, 0)


def _parse(pattern: str, at: int) -> Node:
    parts: list[Node] = []
    while at < len(pattern):
        if pattern[at] in _EXTENDED and pattern[at + 1 : at + 2] == "(":
            found = _alternatives(pattern, at + 2)
            if found is None:
                # Never closed: from here on all characters stand for themselves, backslashes too.
                parts.append(literal(pattern[at:]))
                break
            parts.append(_extended(pattern[at], found[0], pattern))
            at = found[1]
        elif pattern[at] == "*":
            parts.append(_star(pattern, at + 1))
            break
        else:
            node, at = _single(pattern, at)
            parts.append(node)
    return Sequence(tuple(parts))


def _star(pattern: str, at: int) -> Node:
    """Read what a star and all that follows it say together.

    A star also takes in the stars, the `?` (one character each) and the `*(…)` and `?(…)` behind it. What is left then
    matches no empty text, for bash tries it only where there is a character; but if it begins with `!(…)` it may be
    missing altogether.
    """
    taken = 0
    early: list[Node] = []
    while at < len(pattern) and pattern[at] in "*?":
        if pattern[at + 1 : at + 2] == "(":
            node = _parse(pattern, at)
            early.append(Sequence((*[ANY] * taken, NotEmpty(node) if pattern[at] == "*" else node)))
            found = _alternatives(pattern, at + 2)
            at = len(pattern) if found is None else found[1]
        else:
            taken += pattern[at] == "?"
            at += 1
    if at == len(pattern):
        late: list[Node] = [Sequence((*[ANY] * taken, ANYTHING))]
    else:
        rest = _parse(pattern, at)
        may_be_empty = matcher(rest, anywhere=False)("")
        late = [Sequence((*[ANY] * taken, ANYTHING, NotEmpty(rest) if may_be_empty else rest))]
        if pattern[at : at + 2] == "!(":
            late.append(Sequence((ANY,) * taken))
    options = (*early, *late)
    return options[0] if len(options) == 1 else Choice(options)


def _single(pattern: str, at: int) -> tuple[Node, int]:
    match pattern[at]:
        case "?":
            return ANY, at + 1
        case "\\" if at + 1 < len(pattern):
            return literal(pattern[at + 1]), at + 2
        case "[":
            return _bracket(pattern, at + 1) or (literal("["), at + 1)
        case character:
            return literal(character), at + 1


def _extended(operator: str, options: list[tuple[int, int]], pattern: str) -> Node:
    choice = Choice(tuple(_option(pattern, start, end) for start, end in options))
    match operator:
        case "?":
            return Repeat(choice, 0, 1)
        case "*":
            return Repeat(choice, 0, None)
        case "+":
            return Repeat(choice, 1, None)
        case "@":
            return choice
        case _:
            return Not(choice)


def _option(pattern: str, start: int, end: int) -> Node:
    try:
        return parse(pattern[start:end])
    except BadPattern as error:
        raise BadPattern(pattern, start + error.column, error.what) from error


def _alternatives(pattern: str, start: int) -> tuple[list[tuple[int, int]], int] | None:
    """Find where the parts of `@(…|…)` start and end, and what follows; None if it is never closed."""
    options: list[tuple[int, int]] = []
    depth = 0
    at = start
    while at < len(pattern):
        match pattern[at]:
            case "\\":
                at += 1
            case "[":
                at = _end_of_bracket(pattern, at)
            case "(":
                depth += 1
            case ")" if depth:
                depth -= 1
            case ")":
                return [*options, (start, at)], at + 1
            case "|" if not depth:
                options.append((start, at))
                start = at + 1
        at += 1
    return None


def _end_of_bracket(pattern: str, at: int) -> int:
    """Find the `]` that ends the bracket at this place; the end of the pattern if none does."""
    first = at + 1 + (pattern[at + 1 : at + 2] in {"!", "^"})
    named = ""
    at = first
    while at < len(pattern):
        match pattern[at]:
            case "\\":
                at += 1
            case "[" if pattern[at + 1 : at + 2] in {":", ".", "="}:
                named = pattern[at + 1]
            case "]" if named and pattern[at - 1] == named:
                named = ""
            case "]" if at != first:
                return at
        at += 1
    return at


def _bracket(pattern: str, at: int) -> tuple[Node, int] | None:
    """Read a bracket expression; None if it is never closed, so that its `[` stands for itself."""
    negated = pattern[at : at + 1] in {"!", "^"}
    at += negated
    spans: list[Span] = []
    first = True
    while first or pattern[at : at + 1] != "]":
        if at >= len(pattern):
            return None
        if pattern[at] == "\\" and at + 1 == len(pattern):
            return NOTHING, at + 1
        more, at = _bracket_part(pattern, at, negated=negated)
        if at > len(pattern):
            return NOTHING, at
        spans += more
        first = False
    return Chars(tuple(spans), negated), at + 1


def _bracket_part(pattern: str, at: int, *, negated: bool) -> tuple[tuple[Span, ...], int]:
    """Read one part of a bracket; a place beyond the pattern's end if it is cut off in a way that never matches."""
    opening = pattern[at : at + 2]
    if opening == "[:":
        end = _find_end(pattern, at)
        return CLASSES.get(pattern[at + 2 : end], ()), end + 2
    if opening == "[=" and pattern[at + 3 : at + 5] == "=]":
        if negated and pattern[at + 5 : at + 6] == "]":
            raise BadPattern(pattern, at + 1, "bash does not find the end of a negated bracket after [=…=]")
        return ((pattern[at + 2], pattern[at + 2]),), at + 5
    low, at = _bracket_char(pattern, at)
    if pattern[at : at + 1] != "-" or pattern[at + 1 : at + 2] == "]":
        return ((low, low),), at
    high, at = _bracket_char(pattern, at + 1)
    # A range that runs backwards is empty, and no error.
    return ((low, high),) if low <= high else (), at


def _bracket_char(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at : at + 2] == "[.":
        end = _find_end(pattern, at)
        if end != at + 3:
            raise BadPattern(pattern, at + 1, f"the collating symbol {pattern[at + 2 : end]!r} is not known")
        return pattern[at + 2], end + 2
    if pattern[at : at + 1] == "\\":
        at += 1
    return (pattern[at], at + 1) if at < len(pattern) else ("", len(pattern) + 1)


def _find_end(pattern: str, at: int) -> int:
    end = pattern.find(pattern[at + 1] + "]", at + 2)
    if end < 0:
        raise BadPattern(pattern, at + 1, f"this {pattern[at : at + 2]!r} is never closed")
    return end
