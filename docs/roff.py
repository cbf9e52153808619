# SPDX-License-Identifier: Apache-2.0
"""Manual pages in roff's man macros: a small writer, which takes text with Markdown's `code` and links in it."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

_INLINE: Final = re.compile(r"\[([^]]+)\]\([^)\s]+\)|`([^`]+)`|\*\*([^*]+)\*\*")
_CELL: Final = re.compile(r"(?<!\\)\|")
_HEADING: Final = re.compile(r"(#+) (.*)")


def escaped(text: str) -> str:
    """Text that roff prints as it stands."""
    text = text.replace("\\", "\\e")
    return "".join(letter if letter.isascii() else f"\\[u{ord(letter):04X}]" for letter in text)


def literal(text: str) -> str:
    """What is typed as it stands: its hyphens can be copied from the page."""
    return escaped(text).replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga").replace("^", "\\(ha")


def bold(text: str) -> str:
    """The same, in bold."""
    return f"\\fB{literal(text)}\\fR"


def italic(text: str) -> str:
    """What is to be replaced."""
    return f"\\fI{literal(text)}\\fR"


def inline(text: str) -> str:
    """A piece of prose."""
    parts, at = list[str](), 0
    for found in _INLINE.finditer(text):
        link, code, strong = found.groups()
        parts += [escaped(text[at : found.start()]), bold(code) if code else inline(link or strong)]
        at = found.end()
    return "".join([*parts, escaped(text[at:])])


@dataclass(slots=True)
class Page:
    """A manual page that is being written."""

    name: str
    section: int
    version: str
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin it."""
        title = literal(self.name).upper().replace("\\(AQ", "\\(aq")
        self.lines += [
            '.\\" Made by docs/generate.py (make docs) from the code; edit that.',
            f'.TH "{title}" {self.section} "" "refloat {self.version}" "refloat"',
            '.\\" Lines are not justified, and words are not broken.',
            ".nh",
            ".ad l",
        ]

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(self.lines) + "\n"

    def section_head(self, title: str) -> None:
        """Begin a section."""
        self.lines.append(f'.SH "{escaped(title.upper())}"')

    def subsection_head(self, title: str) -> None:
        """Begin a section in it."""
        self.lines.append(f'.SS "{inline(title).replace(chr(34), chr(92) + "(dq")}"')

    def paragraph(self, text: str) -> None:
        """Prose."""
        self.lines += [".PP", _guarded(inline(" ".join(text.split())))]

    def raw(self, roff: str) -> None:
        """A paragraph of what is roff already."""
        self.lines += [".PP", _guarded(roff)]

    def item(self, roff: str, text: str) -> None:
        """A tagged paragraph: the tag is roff already."""
        self.lines += [".TP", _guarded(roff), _guarded(inline(" ".join(text.split())))]

    def example(self, lines: Iterable[str]) -> None:
        """Lines as they are typed."""
        self.lines += [".PP", ".RS 4", ".nf", *(_guarded(literal(line)) for line in lines), ".fi", ".RE"]

    def markdown(self, text: str) -> None:
        """Headings, paragraphs, indented or fenced examples, and tables, of which each row becomes an item."""
        for block in _blocks(text):
            self._block(block)

    def _block(self, block: Sequence[str]) -> None:
        first = block[0]
        if heading := _HEADING.match(first):
            (self.subsection_head if len(heading[1]) > 1 else self.section_head)(heading[2])
        elif first.startswith("|"):
            for row in block[2:]:
                self._row(row)
        elif first.startswith("```"):
            self.example(block[1:-1])
        elif first.startswith("    "):
            self.example(line.removeprefix("    ") for line in block)
        elif not first.startswith("<!--"):
            self.paragraph("\n".join(block))

    def _row(self, row: str) -> None:
        key, *middle, what = (cell.strip().replace("\\|", "|") for cell in _CELL.split(row.strip().strip("|")))
        tag = bold(key.strip("`"))
        about = [cell for cell in middle if cell not in {"", "-", "none", "``"}]
        if about:
            tag += f" ({inline(', default '.join(about))})"
        self.item(tag, what or "-")


def _blocks(text: str) -> Iterator[list[str]]:
    """Lines that belong together."""
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        is_fenced = bool(block) and block[0].startswith("```")
        if is_fenced or (line.strip() and not _HEADING.match(line)):
            block.append(line)
        ends = line.startswith("```") if is_fenced else not block or block[-1] is not line
        if ends and block:
            yield block
            block = []
        if not is_fenced and _HEADING.match(line):
            yield [line]


def _guarded(line: str) -> str:
    """A line of text that is not taken for a request."""
    return f"\\&{line}" if line.startswith((".", "'")) else line
