# SPDX-License-Identifier: Apache-2.0
"""All forms, and the TOML of a check in plain words."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from refloat_checks.nhc import words
from refloat_checks.nhc.forms import filesystems, machine, processes
from refloat_checks.nhc.forms.form import Converted, Form, NoForm, Table
from refloat_checks.nhc.units import BadUnit

ALL: Final[Mapping[str, Form]] = {form.check: form for form in (*filesystems.FORMS, *machine.FORMS, *processes.FORMS)}


def convert(check: str) -> Converted:
    """Give the form of a check as it stands in an nhc.conf. Raises NoForm, which says why it has none."""
    command = words.parse(check)
    if command is None:
        raise NoForm("only a shell can read it")
    if command.name is None:
        raise NoForm("it sets variables")
    if command.name not in ALL:
        raise NoForm(f"{command.name} is not one of NHC's checks")
    if next(words.names(command), None) is not None:
        raise NoForm("it depends on variables")
    spoken: list[str] = []
    for word in command.words[1:]:
        expanded = words.expand(word, lambda _: None)
        if expanded is None:
            raise NoForm("it is calculated")
        spoken += expanded
    try:
        return ALL[command.name].convert(spoken)
    except BadUnit as error:
        raise NoForm(str(error)) from error


def toml(table: Table) -> str:
    """Write a table of a check."""
    return "\n".join(("[[check]]", *lines(table))) + "\n"


def lines(table: Table) -> list[str]:
    """Write its keys."""
    return [f"{key} = {_value(value)}" for key, value in table.items()]


def _value(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(_value(each) for each in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # What JSON says of a text TOML reads as the same, but for a character that JSON lets stand as it is.
        return json.dumps(value).replace("\x7f", "\\u007f")
    return f"{value:g}" if isinstance(value, float) else str(value)
