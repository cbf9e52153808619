# SPDX-License-Identifier: Apache-2.0
"""What is wrong with settings, in sentences that name the place, the key and the nearest right one. Pure."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from refloat_service.models import models_in, tags

Location: TypeAlias = tuple[int | str, ...]

_LIST_AT_MOST: Final = 16
_SHOW_AT_MOST: Final = 60
_SECRET = re.compile(r"password|token|secret")
_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"^\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*=")
_PART = re.compile(r"\"([^\"]*)\"|'([^']*)'|([A-Za-z0-9_-]+)")
_SAYS: Final[Mapping[str, str]] = {
    "missing": "must be set",
    "string_type": "must be text in quotes",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "dict_type": "must be a table",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "path_type": "must be a path in quotes",
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where settings came from: the file's name and text, and the environment variable behind a key."""

    name: str
    text: str = ""
    variables: dict[Location, str] = field(default_factory=dict)


def describe(model: type[BaseModel], error: ValidationError, data: Mapping[str, Any], source: Source) -> str:
    """All problems, one line for each."""
    lines = _lines(source.text)
    told = [_sentence(model, problem, data, source, lines) for problem in error.errors(include_url=False)]
    return "\n".join(dict.fromkeys(told))


def _sentence(
    model: type[BaseModel],
    problem: ErrorDetails,
    data: Mapping[str, Any],
    source: Source,
    lines: Mapping[Location, int],
) -> str:
    location = _spelled(problem["loc"], data)
    where = source.variables.get(location) or _place(source.name, location, lines)
    key = _dotted(location)
    if problem["type"] == "extra_forbidden":
        return f"{where}: {key}: {_unknown(str(location[-1]), _known_keys(model, problem['loc'][:-1]))}"
    said = _said(problem, location)
    return f"{where}: {key}: {said}" if key else f"{where}: {said}"


def _said(problem: ErrorDetails, location: Location) -> str:
    if problem["type"] in {"value_error", "assertion_error"}:
        return str(problem.get("ctx", {}).get("error", problem["msg"]))
    if problem["type"] == "missing":
        return _SAYS["missing"]
    says = _SAYS.get(problem["type"]) or problem["msg"].replace("Input should be", "must be", 1)
    value = problem["input"]
    if _SECRET.search(_dotted(location)) or isinstance(value, Mapping | BaseModel):
        return says
    shown = repr(value)
    return f"{says}, not {shown if len(shown) <= _SHOW_AT_MOST else shown[:_SHOW_AT_MOST] + '…'}"


def _unknown(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = f" (known here: {', '.join(known)})" if known and len(known) <= _LIST_AT_MOST else ""
    return f"unknown key{hint}{listed}"


def _known_keys(model: type[BaseModel], location: Location) -> list[str]:
    """The keys that may stand at ``location``, found by walking the models as pydantic names the way."""
    models: list[type[BaseModel]] = [model]
    for part in location:
        inside = [m for at in models if (info := _field(at, part)) for m in models_in(info.annotation)]
        if inside:
            models = inside
        elif isinstance(part, str):  # the tag of a union, or the key of a table of tables
            models = [at for at in models if part in tags(at)] or models
    return sorted({info.alias or name for at in models for name, info in at.model_fields.items()})


def _field(model: type[BaseModel], part: int | str) -> Any:
    return next((info for name, info in model.model_fields.items() if part in (name, info.alias)), None)


def _spelled(location: Location, data: Any) -> Location:
    """The location as the file spells it: without the tags of unions, which pydantic adds."""
    spelled: list[int | str] = []
    for index, part in enumerate(location):
        if isinstance(data, Mapping) and part in data:
            data = data[str(part)]
        elif isinstance(data, Sequence) and not isinstance(data, str) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif index < len(location) - 1 or not isinstance(data, Mapping):
            continue
        spelled.append(part)
    return tuple(spelled)


def _dotted(location: Location) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _place(name: str, location: Location, lines: Mapping[Location, int]) -> str:
    for end in range(len(location), 0, -1):
        if line := lines.get(location[:end]):
            return f"{name}:{line}"
    return name


def _lines(text: str) -> dict[Location, int]:
    """The line of each table and key, as far as a look at each line tells; what is not found is not named."""
    found: dict[Location, int] = {}
    table: Location = ()
    counts: dict[Location, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _table(tuple(_parts(header[2])), header[1] == "[[", counts)
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault(table + tuple(_parts(key[1])), number)
    return found


def _table(parts: tuple[str, ...], is_list: bool, counts: dict[Location, int]) -> Location:  # noqa: FBT001 - which bracket
    place: Location = ()
    for depth, part in enumerate(parts, 1):
        place = (*place, part)
        if is_list and depth == len(parts):
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = (*place, counts[place])
    return place


def _parts(dotted: str) -> Iterator[str]:
    for match in _PART.finditer(dotted):
        yield next(group for group in match.groups() if group is not None)
