# SPDX-License-Identifier: Apache-2.0
"""What pydantic models are made of: the models inside an annotation, and the tags that tell them apart."""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation holds, in its unions, lists and tables."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not Literal:
        for argument in get_args(annotation):
            yield from models_in(argument)


def members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; anything else is a union of one."""
    annotation = bare(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(member for argument in get_args(annotation) for member in members(argument))
    return (annotation,)


def bare(annotation: Any) -> Any:
    """An annotation without what Annotated adds."""
    return bare(get_args(annotation)[0]) if get_origin(annotation) is Annotated else annotation


def tags(model: type[BaseModel]) -> set[str]:
    """The names by which pydantic tells this model from others in a union."""
    literals = (bare(info.annotation) for info in model.model_fields.values())
    said = {str(value) for literal in literals if get_origin(literal) is Literal for value in get_args(literal)}
    return said | {model.__name__}
