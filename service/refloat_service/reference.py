# SPDX-License-Identifier: Apache-2.0
"""The configuration reference in Markdown, written from the models, so that it cannot be wrong. Pure."""

import enum
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from refloat_service.models import members, models_in

_NAMES: Mapping[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    Any: "anything",
}
_CONTAINERS: Mapping[Any, str] = {dict: "table", Mapping: "table", list: "list", tuple: "list", Sequence: "list"}


def reference(model: type[BaseModel], title: str) -> str:
    """Every key of a model with its type, default and meaning; tables inside it as sections of their own."""
    lines = [f"# {title}", "", *_prose(model)]
    lines += _table(model)
    for heading, section in _sections(model, "", frozenset({model})):
        lines += ["", f"## {heading}", "", *_prose(section), *_table(section)]
    return "\n".join(lines) + "\n"


def _sections(model: type[BaseModel], prefix: str, seen: frozenset[type]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, info in model.model_fields.items():
        inside = list(dict.fromkeys(models_in(info.annotation)))
        for section in inside:
            place, heading = _heading(f"{prefix}{info.alias or name}", info.annotation)
            kind = f" ({section.__name__})" if len(inside) > 1 else ""
            yield f"{heading}{kind}", section
            if section not in seen:
                yield from _sections(section, f"{place}.", seen | {section})


def _heading(key: str, annotation: Any) -> tuple[str, str]:
    for member in members(annotation):
        origin = get_origin(member)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return f"{key}.NAME", f"`[{key}.NAME]`, any number of them"
        if isinstance(origin, type) and issubclass(origin, Sequence):
            return key, f"`[[{key}]]`, any number of them"
    return key, f"`[{key}]`"


def _prose(model: type[BaseModel]) -> list[str]:
    text = (model.__doc__ or "").strip()
    return [" ".join(text.split("\n\n")[0].split()), ""] if text else []


def _table(model: type[BaseModel]) -> list[str]:
    rows = ["| key | type | default | what |", "|---|---|---|---|"]
    for name, info in model.model_fields.items():
        what = " ".join((info.description or "").split())
        cells = (f"`{info.alias or name}`", _type(info), _default(info), what)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def _type(info: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(limit, name):g}" for limit in info.metadata for name, sign in _SIGNS if _has(limit, name)
    ]
    return ", ".join([_spell(info.annotation), *bounds])


_SIGNS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))


def _has(limit: Any, name: str) -> bool:
    return isinstance(getattr(limit, name, None), int | float)


def _spell(annotation: Any) -> str:
    kinds = [_spell_one(member) for member in members(annotation) if member is not type(None)]
    return " or ".join(dict.fromkeys(kinds))


def _spell_one(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in arguments)
    if isinstance(origin, type):
        element = arguments[1] if issubclass(origin, Mapping) else arguments[0]
        return f"{_CONTAINERS.get(origin, origin.__name__)} of {_spell(element)}"
    if not isinstance(annotation, type):
        return _NAMES.get(annotation, str(annotation))
    if issubclass(annotation, BaseModel):
        return "table"
    if issubclass(annotation, enum.Enum):
        return ", ".join(f"`{json.dumps(member.value)}`" for member in annotation)
    return _NAMES.get(annotation, annotation.__name__)


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "must be set"
    if info.default_factory is not None and not isinstance(info.default_factory, type):
        return "computed"  # from the machine that we are on, which is not the reader's
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined:
        return "none"
    if any(models_in(info.annotation)):
        return "see below" if value else "none"
    return f"`{json.dumps(to_jsonable_python(value), ensure_ascii=False)}`"
