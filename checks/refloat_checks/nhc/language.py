# SPDX-License-Identifier: Apache-2.0
"""What a pattern says, whatever dialect it was written in, and two ways to ask whether a text says it.

Python's `re` is the fast way. The other, bit-parallel over all places of the text at once, takes time proportional to
the text for whatever pattern, and can say "not this": bash's `!(…)`, which `re` cannot.
"""

from __future__ import annotations

import sys
from enum import Enum
from functools import reduce

from refloat_contract.errors import Misconfigured
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

Span = tuple[str, str]
_LAST: Final = chr(0x10FFFF)
# The classes of the POSIX locale, in which slurmd starts its health check.
CLASSES: Final[dict[str, tuple[Span, ...]]] = {
    "alnum": (("0", "9"), ("A", "Z"), ("a", "z")),
    "alpha": (("A", "Z"), ("a", "z")),
    "blank": ((" ", " "), ("\t", "\t")),
    "cntrl": (("\0", "\x1f"), ("\x7f", "\x7f")),
    "digit": (("0", "9"),),
    "graph": (("!", "~"),),
    "lower": (("a", "z"),),
    "print": ((" ", "~"),),
    "punct": (("!", "/"), (":", "@"), ("[", "`"), ("{", "~")),
    "space": ((" ", " "), ("\t", "\r")),
    "upper": (("A", "Z"),),
    "xdigit": (("0", "9"), ("A", "F"), ("a", "f")),
}
WORD: Final = (*CLASSES["alnum"], ("_", "_"))
_MANY_LOOPS: Final = 3
_SHORT: Final = 400  # characters


class BadPattern(Misconfigured):
    """A pattern that means nothing; says what is wrong at which character."""

    def __init__(self, pattern: str, column: int, what: str) -> None:
        self.pattern, self.column, self.what = pattern, column, what
        super().__init__(f"column {column} of the pattern {pattern!r}: {what}")


@record
class Chars:
    """One character out of these spans, or with `negated` one that is in none of them."""

    spans: tuple[Span, ...]
    negated: bool = False

    def has(self, character: str) -> bool:
        """Tell whether it is this character."""
        return any(low <= character <= high for low, high in self.spans) is not self.negated


class Place(Enum):
    """A place between characters. Words are made of letters, digits and underscores."""

    START = r"\A"
    END = r"\Z"
    WORD_START = r"(?<!\w)(?=\w)"
    WORD_END = r"(?<=\w)(?!\w)"
    WORD_EDGE = r"(?:(?<!\w)(?=\w)|(?<=\w)(?!\w))"
    NO_WORD_EDGE = r"(?:(?<!\w)(?!\w)|(?<=\w)(?=\w))"


@record
class Sequence:
    """One after the other."""

    parts: tuple[Node, ...]


@record
class Choice:
    """Any of these."""

    options: tuple[Node, ...]


@record
class Repeat:
    """So many times; `most` None: any number."""

    part: Node
    least: int
    most: int | None


@record
class Group:
    """A part whose text a BackReference may ask for again."""

    number: int
    part: Node


@record
class BackReference:
    """The text of an earlier group again."""

    number: int


@record
class Not:
    """Any text at all but what this part says."""

    part: Node


@record
class NotEmpty:
    """What this part says, if that is at least one character."""

    part: Node


Node = Chars | Place | Sequence | Choice | Repeat | Group | BackReference | Not | NotEmpty
NOTHING: Final = Chars(())
ANY: Final = Chars((), negated=True)
ANYTHING: Final = Repeat(ANY, 0, None)
EMPTY: Final = Sequence(())


def literal(text: str) -> Sequence:
    """Say exactly this text."""
    return Sequence(tuple(Chars(((character, character),)) for character in text))


def matcher(node: Node, *, anywhere: bool) -> Callable[[str], bool]:
    """Make what tells whether a text, or with `anywhere` some part of it, is what the node says."""
    if not _has(node, BackReference) and (
        _has(node, Not) or _has(node, NotEmpty) or _loops(node) > _MANY_LOOPS or _nests(node)
    ):
        return lambda text: _Text(text).fits(node, anywhere=anywhere)
    if "re" in sys.modules or _has(node, BackReference):
        return _by_re(node, anywhere=anywhere)
    return _Sparing(node, anywhere=anywhere)


def _by_re(node: Node, *, anywhere: bool) -> Callable[[str], bool]:
    import re  # noqa: PLC0415 - loading it and compiling takes longer than a few short texts do without

    compiled = re.compile(to_re(node, keep_groups=_has(node, BackReference)), re.DOTALL | re.ASCII)
    ask = compiled.search if anywhere else compiled.fullmatch
    return lambda text: ask(text) is not None


class _Sparing:
    """Tells whether texts are what a node says: the first, if they are short, without `re`, and the others by it."""

    def __init__(self, node: Node, *, anywhere: bool) -> None:
        self._node = node
        self._anywhere = anywhere
        self._left = _SHORT
        self._ask: Callable[[str], bool] | None = None

    def __call__(self, text: str) -> bool:
        self._left -= len(text) + 1
        if self._ask is None and self._left < 0:
            self._ask = _by_re(self._node, anywhere=self._anywhere)
        return self._ask(text) if self._ask is not None else _Text(text).fits(self._node, anywhere=self._anywhere)


def _parts(node: Node) -> tuple[Node, ...]:
    match node:
        case Sequence(parts) | Choice(parts):
            return parts
        case Repeat(part) | Group(_, part) | Not(part) | NotEmpty(part):
            return (part,)
        case _:
            return ()


def _has(node: Node, kind: type[Node]) -> bool:
    return isinstance(node, kind) or any(_has(part, kind) for part in _parts(node))


def _loops(node: Node) -> int:
    return (isinstance(node, Repeat) and node.most is None) + sum(_loops(part) for part in _parts(node))


def _nests(node: Node) -> bool:
    # A repeated repetition or choice is what makes backtracking take exponential time.
    if isinstance(node, Repeat) and node.most != 1 and (_has(node.part, Repeat) or _has(node.part, Choice)):
        return True
    return any(_nests(part) for part in _parts(node))


def to_re(node: Node, *, keep_groups: bool = False) -> str:
    """Say it in Python's dialect; for DOTALL and ASCII."""
    match node:
        case Chars():
            return _chars_to_re(node)
        case Place():
            return node.value
        case Sequence(parts):
            return "".join(to_re(part, keep_groups=keep_groups) for part in parts)
        case Choice(options):
            return f"(?:{'|'.join(to_re(option, keep_groups=keep_groups) for option in options)})"
        case Repeat(part, least, most):
            return f"(?:{to_re(part, keep_groups=keep_groups)}){{{least},{'' if most is None else most}}}"
        case Group(_, part):
            return f"({'' if keep_groups else '?:'}{to_re(part, keep_groups=keep_groups)})"
        case BackReference(number):
            return f"(?:\\{number})"
        case Not() | NotEmpty():
            raise AssertionError("only the bit-parallel way can say this")


def _chars_to_re(chars: Chars) -> str:
    import re  # noqa: PLC0415 - loaded by then

    if not chars.spans:
        return "." if chars.negated else r"(?!)"
    if not chars.negated and len(chars.spans) == 1 and chars.spans[0][0] == chars.spans[0][1]:
        return re.escape(chars.spans[0][0])
    inside = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in chars.spans)
    return f"[{'^' if chars.negated else ''}{inside}]"


class _Text:
    """A text, asked from many places at once: bit i of a number stands for the place before character i."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._all = (1 << len(text) + 1) - 1
        self._masks: dict[Node, int] = {}

    def fits(self, node: Node, *, anywhere: bool) -> bool:
        """Tell whether the text, or some part of it, is what the node says."""
        if anywhere:
            return self._ends(node, self._all) != 0
        return bool(self._ends(node, 1) >> len(self._text) & 1)

    def _ends(self, node: Node, starts: int) -> int:
        """All places where the node can end, if it starts in one of these."""
        if not starts:
            return 0
        match node:
            case Sequence(parts):
                return reduce(lambda reached, part: self._ends(part, reached), parts, starts)
            case Choice(options):
                return reduce(lambda ends, option: ends | self._ends(option, starts), options, 0)
            case Repeat():
                return self._repeated(node, starts)
            case Group(_, part):
                return self._ends(part, starts)
            case _:
                return self._ends_of_simple(node, starts)

    def _ends_of_simple(self, node: Node, starts: int) -> int:
        match node:
            case Chars():
                return (starts & self._where(node, self._is_char)) << 1
            case Place():
                return starts & self._where(node, self._is_place)
            case Not(part):
                return self._each(starts, lambda start: self._all & -start & ~self._ends(part, start))
            case NotEmpty(part):
                return self._each(starts, lambda start: self._ends(part, start) & ~start)
            case _:
                raise AssertionError("only re can say a back-reference")

    def _repeated(self, node: Repeat, starts: int) -> int:
        for _ in range(node.least):
            after = self._ends(node.part, starts)
            if after == starts:  # it stands still, and would for ever
                break
            starts = after
        reached = fresh = starts
        rounds = 0
        while fresh and (node.most is None or rounds < node.most - node.least):
            fresh = self._ends(node.part, fresh) & ~reached
            reached |= fresh
            rounds += 1
        return reached

    def _each(self, starts: int, ends_of: Callable[[int], int]) -> int:
        ends = 0
        while starts:
            start = starts & -starts
            ends |= ends_of(start)
            starts ^= start
        return ends

    def _where(self, node: Node, test: Callable[[Node, int], bool]) -> int:
        if node is Place.START:
            return 1
        if node is Place.END:
            return 1 << len(self._text)
        if isinstance(node, Chars) and not node.negated and len(node.spans) == 1:
            low, high = node.spans[0]
            if low == high:
                return self._of_character(low)
        if node not in self._masks:
            places = range(len(self._text) + 1)
            self._masks[node] = sum(1 << place for place in places if test(node, place))
        return self._masks[node]

    def _of_character(self, character: str) -> int:
        found, at = 0, self._text.find(character)
        while at >= 0:
            found |= 1 << at
            at = self._text.find(character, at + 1)
        return found

    def _is_char(self, node: Node, place: int) -> bool:
        return isinstance(node, Chars) and place < len(self._text) and node.has(self._text[place])

    def _is_place(self, node: Node, place: int) -> bool:
        before = place > 0 and Chars(WORD).has(self._text[place - 1])
        after = place < len(self._text) and Chars(WORD).has(self._text[place])
        match node:
            case Place.START:
                return place == 0
            case Place.END:
                return place == len(self._text)
            case Place.WORD_START:
                return after and not before
            case Place.WORD_END:
                return before and not after
            case Place.WORD_EDGE:
                return before is not after
            case _:
                return before is after
