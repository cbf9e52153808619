# SPDX-License-Identifier: Apache-2.0
"""A whole nhc.conf in TOML: the tables of each line that has some, under names that differ."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from refloat_checks.nhc import conf, labels, plan, words
from refloat_checks.nhc.forms import table
from refloat_checks.nhc.forms.form import NoForm, Table

_EVERYWHERE: Final = "*"
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_NAME_CAP: Final = 60  # room for a number, under the 64 characters that the name of a check may have


@dataclass(frozen=True, slots=True)
class LineForm:
    """A line of the file, and its tables, or why it has none."""

    line: conf.Line
    tables: tuple[Table, ...] = ()
    left_out: tuple[str, ...] = ()
    why_not: str = ""

    @property
    def remarks(self) -> list[str]:
        """What a reader must know: where the line came from, where it applied, and what of it is lost."""
        said = [f"line {self.line.number}: {self.line.check}"]
        if self.line.target != _EVERYWHERE:
            said.append(f"only on {self.line.target}: put it into the agent.toml of these nodes alone")
        if self.left_out:
            said.append(f"left out: {' '.join(self.left_out)}")
        if self.why_not:
            said.append(f"no form: {self.why_not}")
        return said

    @property
    def toml(self) -> str:
        """The line in TOML, its remarks before it."""
        comments = "".join(f"# {' '.join(each.split())}\n" for each in self.remarks)
        return comments + "\n".join(table.toml(each) for each in self.tables)


def convert(text: str) -> list[LineForm]:
    """Give the form of each line, in the file's order."""
    taken: dict[str, int] = {}
    return [_convert(line, taken) for line in conf.lines(plan.unbroken(text))]


def _convert(line: conf.Line, taken: dict[str, int]) -> LineForm:
    try:
        found = table.convert(line.check)
    except NoForm as error:
        return LineForm(line, why_not=str(error))
    named = tuple({"name": _unique(_name(line, each), taken), **each} for each in found.tables)
    return LineForm(line, named, found.left_out)


def _name(line: conf.Line, form: Table) -> str:
    command = words.parse(line.check)
    spoken = list(_spoken(command.words[1:])) if command is not None else []
    label = labels.label(command.name if command is not None else None, spoken, line.number)
    if "path" in form:  # a line may be about several
        label = f"{label.partition(':')[0]}:{form['path']}"
    return _UNFIT.sub("-", label.removeprefix("check_")).strip("-")[:_NAME_CAP]


def _spoken(given: tuple[words.Word, ...]) -> Iterator[str]:
    for word in given:
        yield from words.expand(word, lambda _: None) or ()


def _unique(name: str, taken: dict[str, int]) -> str:
    taken[name] = taken.get(name, 0) + 1
    return name if taken[name] == 1 else f"{name}-{taken[name]}"
