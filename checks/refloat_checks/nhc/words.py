# SPDX-License-Identifier: Apache-2.0
"""A check of an nhc.conf as plain words, where it is that plain: names, quotes, variables, arithmetic; else bash's."""

from __future__ import annotations

from enum import Enum
from itertools import groupby

from refloat_checks.nhc import arithmetic
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterator
    from typing import Final

    Lookup = Callable[[str], str | None]

_BLANKS: Final = str.maketrans("\t\n", "  ")
_NAME_BEGINS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_NAME_GOES_ON: Final = _NAME_BEGINS | frozenset("0123456789")
_NAMES_IN_SUM: Final = r"\$\{([A-Za-z_]\w*)\}|\$?\b([A-Za-z_]\w*)"
_SHELL: Final = frozenset("|&;<>()`")
_SPECIAL: Final = frozenset("0123456789?!#@*-$'\"({[")
_ESCAPED_IN_QUOTES: Final = frozenset('$`"\\')
_RESERVED_WORDS: Final = (
    "! case coproc do done elif else esac fi for function if in select then time until while { } [[ ]]"
)
_RESERVED: Final = frozenset(_RESERVED_WORDS.split())


class Kind(Enum):
    """What a part of a word is."""

    TEXT = "text"
    VARIABLE = "variable"
    SUM = "sum"


# NamedTuples, for the nhc command: to import dataclasses takes longer than all that is here.
@record
class Part:
    """A piece of a word; what a quoted one holds is never split at blanks."""

    kind: Kind
    value: str
    quoted: bool


Word = tuple[Part, ...]


@record
class Command:
    """A command in plain words: variables to set (and to export), or a name and its arguments; or nothing at all."""

    words: tuple[Word, ...] = ()
    assignments: tuple[tuple[str, Word], ...] = ()
    exports: tuple[str, ...] = ()
    name: str | None = None


class _NotPlain(Exception):
    """Only bash can tell what this means."""


def parse(check: str) -> Command | None:
    """Read a check as NHC's `eval` would; None where it needs a shell.

    Runs of blanks become one before anything else, inside quotes too: NHC splits the line before it evaluates it.
    """
    text = " ".join(filter(None, check.translate(_BLANKS).split(" ")))
    try:
        words = _words(text)
    except _NotPlain:
        return None
    if not words:
        return Command()
    if _literal(words[0]) == "export":
        return _exported(words[1:])
    assignments = [_assignment(word) for word in words]
    if assignments[0] is not None:
        plain = [each for each in assignments if each is not None]
        return Command(assignments=tuple(plain)) if len(plain) == len(words) else None
    first = words[0]
    if _literal(first) in _RESERVED or any(part.kind is not Kind.TEXT for part in first):
        return None
    return Command(words=tuple(words), name="".join(part.value for part in first))


def expand(word: Word, lookup: Lookup) -> list[str] | None:
    """Give the words that a word becomes; None where its arithmetic needs a shell."""
    if (text := _text(word)) is not None:
        return [text]
    done: list[str] = [""]
    seen = any(part.quoted for part in word)
    for part in word:
        value = _value(part, lookup)
        if value is None:
            return None
        if part.kind is Kind.TEXT or part.quoted:
            done[-1] += value
            seen = seen or bool(value)
            continue
        pieces = _pieces(value)
        done[-1] += pieces[0]
        done += pieces[1:]
    kept = [each for each in done if each]
    return kept or ([""] if seen else [])


def _pieces(value: str) -> list[str]:
    """Split at runs of blanks; those at the ends have an empty piece outside."""
    first, *rest = value.translate(_BLANKS).split(" ")
    return [first, *filter(None, rest[:-1]), *rest[-1:]]


def joined(word: Word, lookup: Lookup) -> str | None:
    """Give what a variable is set to: nothing is split there."""
    values = [_value(part, lookup) for part in word]
    return None if None in values else "".join(value for value in values if value is not None)


def names(command: Command) -> Iterator[str]:
    """Name the variables that a command looks at."""
    for word in (*command.words, *(value for _, value in command.assignments)):
        for part in word:
            if part.kind is Kind.VARIABLE:
                yield part.value
            elif part.kind is Kind.SUM:
                yield from _names_in(part.value)


def _names_in(text: str) -> list[str]:
    import re  # noqa: PLC0415 - few lines calculate

    return re.findall(r"[A-Za-z_][A-Za-z0-9_]*", text)


def _value(part: Part, lookup: Lookup) -> str | None:
    match part.kind:
        case Kind.TEXT:
            return part.value
        case Kind.VARIABLE:
            return lookup(part.value) or ""
        case Kind.SUM:
            import re  # noqa: PLC0415 - few lines calculate

            value = arithmetic.evaluate(re.sub(_NAMES_IN_SUM, lambda found: _number(lookup, found), part.value))
            return None if value is None else str(value)


def _number(lookup: Lookup, found: re.Match[str]) -> str:
    value = (lookup(found[1] or found[2]) or "").strip()
    # What is no number would be evaluated in turn; `#` makes evaluate() refuse, and bash tells.
    return (value if value.lstrip("-").isdecimal() else "#") if value else "0"


def _text(word: Word) -> str | None:
    return word[0].value if len(word) == 1 and word[0].kind is Kind.TEXT and word[0].value else None


def _literal(word: Word) -> str | None:
    return word[0].value if len(word) == 1 and word[0].kind is Kind.TEXT and not word[0].quoted else None


def _name(text: str) -> str:
    """Give the variable's name that a text begins with; nothing if it begins with none."""
    if text[:1] not in _NAME_BEGINS:
        return ""
    end = next((at for at, character in enumerate(text) if character not in _NAME_GOES_ON), len(text))
    return text[:end]


def _assignment(word: Word) -> tuple[str, Word] | None:
    first = word[0]
    name = _name(first.value) if first.kind is Kind.TEXT and not first.quoted else ""
    if not name or not first.value.startswith("=", len(name)):
        return None
    rest = first.value[len(name) + 1 :]
    return name, (*((Part(Kind.TEXT, rest, quoted=False),) if rest else ()), *word[1:])


def _exported(words: list[Word]) -> Command | None:
    assignments = []
    exports = []
    for word in words:
        if (assigned := _assignment(word)) is not None:
            assignments.append(assigned)
            exports.append(assigned[0])
        elif (name := _literal(word)) is not None and name and _name(name) == name:
            exports.append(name)
        else:
            return None
    return Command(assignments=tuple(assignments), exports=tuple(exports))


def _words(text: str) -> list[Word]:
    return _Reader(text).words()


def _merged(parts: list[Part]) -> Iterator[Part]:
    """Make one text of those that follow each other and are quoted alike."""
    for (kind, quoted), alike in groupby(parts, key=lambda part: (part.kind, part.quoted)):
        if kind is Kind.TEXT:
            yield Part(kind, "".join(part.value for part in alike), quoted)
        else:
            yield from alike


class _Reader:
    """Reads words from a line; raises _NotPlain where it needs a shell."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def words(self) -> list[Word]:
        found = []
        while self._at < len(self._text):
            if self._text[self._at] == " ":
                self._at += 1
            elif self._text[self._at] == "#":
                break
            else:
                found.append(self._word())
        return found

    def _word(self) -> Word:
        parts: list[Part] = []
        while self._at < len(self._text) and (character := self._text[self._at]) != " ":
            match character:
                case "'":
                    parts.append(Part(Kind.TEXT, self._until_quote(), quoted=True))
                case '"':
                    parts += self._quoted()
                case "\\":
                    parts.append(Part(Kind.TEXT, self._escaped(), quoted=True))
                case "$":
                    parts.append(self._dollar(quoted=False))
                case _:
                    parts.append(Part(Kind.TEXT, self._bare(), quoted=False))
        return tuple(_merged(parts))

    def _bare(self) -> str:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] not in " '\"\\$":
            character = self._text[self._at]
            if character in _SHELL or (character == "~" and self._text[self._at - 1 : self._at] in {"", " ", "=", ":"}):
                raise _NotPlain
            if character == "{" and any(marks in self._text[self._at :] for marks in (",", "..")):
                raise _NotPlain
            self._at += 1
        return self._text[start : self._at]

    def _until_quote(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise _NotPlain
        value = self._text[self._at + 1 : end]
        self._at = end + 1
        return value

    def _escaped(self) -> str:
        if self._at + 1 == len(self._text):
            raise _NotPlain
        self._at += 2
        return self._text[self._at - 1]

    def _quoted(self) -> list[Part]:
        parts = [Part(Kind.TEXT, "", quoted=True)]
        self._at += 1
        while self._at < len(self._text):
            character = self._text[self._at]
            following = self._text[self._at + 1 : self._at + 2]
            if character == '"':
                self._at += 1
                return parts
            if character == "`":
                raise _NotPlain
            if character == "$":
                parts.append(self._dollar(quoted=True))
                continue
            if character == "\\" and following in _ESCAPED_IN_QUOTES:
                self._at += 1
                character = following
            parts.append(Part(Kind.TEXT, character, quoted=True))
            self._at += 1
        raise _NotPlain

    def _dollar(self, *, quoted: bool) -> Part:
        rest = self._text[self._at + 1 :]
        if rest.startswith("(("):
            return self._sum(quoted=quoted)
        braces = rest[:1] == "{"
        name = _name(rest[braces:])
        if name and (not braces or rest.startswith("}", 1 + len(name))):
            self._at += 1 + len(name) + 2 * braces
            return Part(Kind.VARIABLE, name, quoted=quoted)
        if rest[:1] in _SPECIAL and not (quoted and rest[:1] in {'"', "'"}) and rest:
            raise _NotPlain
        self._at += 1
        return Part(Kind.TEXT, "$", quoted=quoted)

    def _sum(self, *, quoted: bool) -> Part:
        end = self._text.find("))", self._at)
        inside = self._text[self._at + 3 : end]
        if end < 0 or inside.count("(") != inside.count(")") or any(mark in inside for mark in "`'\"[]=<>&|?:,!~^"):
            raise _NotPlain
        self._at = end + 2
        return Part(Kind.SUM, inside, quoted=quoted)
