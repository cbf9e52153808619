# SPDX-License-Identifier: Apache-2.0
r"""POSIX extended regular expressions, as glibc's regcomp(3) takes them: also where POSIX leaves it open.

GNU's `\w \W \s \S \b \B \< \> \` \'` and back-references are known; other escaped characters stand for themselves.
"""

from __future__ import annotations

from refloat_checks.nhc.language import (
    ANY,
    CLASSES,
    EMPTY,
    WORD,
    BackReference,
    BadPattern,
    Chars,
    Choice,
    Group,
    Node,
    Place,
    Repeat,
    Sequence,
    Span,
    literal,
)

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Final

_DUP_MAX: Final = 0x7FFF
_NAME_MAX: Final = 32
_STAR_LIKE: Final = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_ESCAPED_PLACES: Final = {
    "b": Place.WORD_EDGE,
    "B": Place.NO_WORD_EDGE,
    "<": Place.WORD_START,
    ">": Place.WORD_END,
    "`": Place.START,
    "'": Place.END,
}
_ESCAPED_CHARS: Final = {
    "w": Chars(WORD),
    "W": Chars(WORD, negated=True),
    "s": Chars(CLASSES["space"]),
    "S": Chars(CLASSES["space"], negated=True),
}


def parse(pattern: str) -> Node:
    """Read an extended regular expression.

    Raises BadPattern where regcomp(3) would refuse it.
    """
    return _Reader(pattern).read()


class _Reader:
    """Reads one expression from left to right."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._groups = 0
        self._closed: set[int] = set()

    def read(self) -> Node:
        node = self._choice(depth=0)
        if self._peek():
            raise self._bad("what follows is not understood")
        return node

    def _bad(self, what: str, at: int | None = None) -> BadPattern:
        return BadPattern(self._pattern, (self._at if at is None else at) + 1, what)

    def _peek(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._pattern[at] if at < len(self._pattern) else ""

    def _take(self) -> str:
        character = self._peek()
        self._at += 1
        return character

    def _choice(self, depth: int) -> Node:
        options = [self._branch(depth)]
        while self._peek() == "|":
            self._at += 1
            options.append(self._branch(depth))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _branch(self, depth: int) -> Node:
        parts: list[Node] = []
        while self._peek() and self._peek() != "|" and not (depth and self._peek() == ")"):
            parts.append(self._piece(depth))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _piece(self, depth: int) -> Node:
        node = self._atom(depth)
        if isinstance(node, Place):
            return node  # cannot be repeated: a repetition after it has nothing to repeat
        while self._peek() and self._peek() in "*+?{":
            node = self._repetition(node)
        return node

    def _repetition(self, node: Node) -> Node:
        if self._peek() == "{":
            least, most = self._interval()
        else:
            least, most = _STAR_LIKE[self._take()]
        return EMPTY if most == 0 else Repeat(node, least, most)

    def _atom(self, depth: int) -> Node:
        start, character = self._at, self._take()
        match character:
            case "(":
                return self._group(depth, start)
            case "[":
                return self._bracket(start)
            case ".":
                return ANY
            case "^":
                return Place.START
            case "$":
                return Place.END
            case "\\":
                return self._escape(start)
            case "*" | "+" | "?" | "{":
                raise self._bad(f"there is nothing that {character!r} could repeat", start)
            case _:
                return literal(character).parts[0]

    def _group(self, depth: int, start: int) -> Node:
        self._groups += 1
        number = self._groups
        part = self._choice(depth + 1)
        if self._take() != ")":
            raise self._bad("this '(' is never closed", start)
        self._closed.add(number)
        return Group(number, part)

    def _escape(self, start: int) -> Node:
        character = self._take()
        if not character:
            raise self._bad("a backslash at the end escapes nothing", start)
        if character in "123456789":
            if int(character) not in self._closed:
                raise self._bad(f"there is no group {character} before this", start)
            return BackReference(int(character))
        if character in _ESCAPED_PLACES:
            return _ESCAPED_PLACES[character]
        return _ESCAPED_CHARS.get(character) or literal(character).parts[0]

    def _interval(self) -> tuple[int, int | None]:
        start = self._at
        self._at += 1
        least = self._number()
        if least is None and self._peek() != ",":
            raise self._bad("a repetition is written {3}, {3,} or {3,5}", start)
        most = least
        if self._peek() == ",":
            self._at += 1
            most = self._number()
        if self._take() != "}":
            raise self._bad("a repetition is written {3}, {3,} or {3,5}", start)
        if most is not None and (least or 0) > most:
            raise self._bad("the first number is greater than the second", start)
        if max(least or 0, most or 0) > _DUP_MAX:
            raise self._bad(f"nothing can be repeated more than {_DUP_MAX} times", start)
        return least or 0, most

    def _number(self) -> int | None:
        start = self._at
        while "0" <= self._peek() <= "9":
            self._at += 1
        return int(self._pattern[start : self._at]) if self._at > start else None

    def _bracket(self, start: int) -> Node:
        negated = self._peek() == "^"
        if negated:
            self._at += 1
        spans: list[Span] = []
        first = True
        while first or self._peek() != "]":
            if not self._peek():
                raise self._bad("this '[' is never closed", start)
            spans += self._bracket_part(start, first=first)
            first = False
        self._at += 1
        return Chars(tuple(spans), negated)

    def _bracket_part(self, start: int, *, first: bool) -> tuple[Span, ...]:
        spans = self._named("[:", start) or self._named("[=", start)
        if spans:
            return spans
        low = self._bracket_char(start, hyphen_may_stand=first)
        if self._peek() != "-" or self._peek(1) in {"", "]"}:
            return ((low, low),)
        at = self._at
        self._at += 1
        if self._peek() == "[" and self._peek(1) in {":", "="}:
            raise self._bad("a class cannot end a range", at)
        high = self._bracket_char(start, hyphen_may_stand=True)
        if low > high:
            raise self._bad(f"the range {low}-{high} runs backwards", at - 1)
        return ((low, high),)

    def _bracket_char(self, start: int, *, hyphen_may_stand: bool) -> str:
        symbol = self._named("[.", start)
        if symbol:
            return symbol[0][0]
        if self._peek() == "-" and not hyphen_may_stand and self._peek(1) != "]":
            raise self._bad("a '-' stands for itself only at the start or the end of a bracket")
        character = self._take()
        if not character:
            raise self._bad("this '[' is never closed", start)
        return character

    def _named(self, opening: str, start: int) -> tuple[Span, ...]:
        """Read `[:class:]`, `[=a=]` or `[.a.]` if there is one."""
        if self._pattern[self._at : self._at + 2] != opening:
            return ()
        at = self._at + 2
        end = self._pattern.find(opening[1] + "]", at)
        if end < 0 or end - at >= _NAME_MAX:
            raise self._bad("this '[' is never closed", start)
        name = self._pattern[at:end]
        if opening == "[:":
            if name not in CLASSES:
                raise self._bad(f"there is no class [:{name}:]")
            self._at = end + 2
            return CLASSES[name]
        if len(name) != 1:
            raise self._bad(f"there is no collating symbol {name!r}")
        self._at = end + 2
        return ((name, name),)
