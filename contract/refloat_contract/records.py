# SPDX-License-Identifier: Apache-2.0
"""Frozen data that is quick to define: what `nhc` loads at every run may not spend its time on making classes.

`dataclasses` takes longer to import than a health check to run, and then writes and compiles source for each class.
"""

from __future__ import annotations

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Any, TypeVar, dataclass_transform

    T = TypeVar("T")

    @dataclass_transform(frozen_default=True)
    def record(cls: type[T]) -> type[T]:
        """Make a class a frozen dataclass: its annotations are its fields, in order, with their defaults."""
        ...

else:

    def record(cls: type) -> type:
        """Make a class a frozen dataclass: its annotations are its fields, in order, with their defaults."""
        names = tuple(cls.__annotations__)
        cls.__match_args__ = names
        cls._fields = frozenset(names)
        cls._defaults = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
        for method in (__init__, __eq__, __hash__, __repr__):
            setattr(cls, method.__name__, method)
        cls.__setattr__ = cls.__delattr__ = _refuse
        return cls


def replace(made: T, **changes: Any) -> T:
    """Give the same record with other values in some fields."""
    return type(made)(**{**made.__dict__, **changes})


def __init__(self: Any, *values: object, **named: object) -> None:  # noqa: N807 - a method of each record
    kind = type(self)
    names = kind.__match_args__
    fields = self.__dict__
    if len(values) < len(names):
        fields.update(kind._defaults)  # noqa: SLF001 - the decorator's own
    fields.update(zip(names, values, strict=False))
    if named:
        fields.update(named)
        wrong = fields.keys() != kind._fields or named.keys() & names[: len(values)]
    else:
        wrong = len(fields) != len(names)
    if wrong or len(values) > len(names):
        raise TypeError(f"{kind.__name__} takes {', '.join(names)}; not {values!r} {named!r}")


def __eq__(self: Any, other: object) -> bool:  # noqa: N807 - the same
    if type(other) is not type(self):
        return NotImplemented
    return bool(self.__dict__ == other.__dict__)


def __hash__(self: Any) -> int:  # noqa: N807 - the same
    return hash((type(self), *map(self.__dict__.get, type(self).__match_args__)))


def __repr__(self: Any) -> str:  # noqa: N807 - the same
    said = ", ".join(f"{name}={self.__dict__[name]!r}" for name in type(self).__match_args__)
    return f"{type(self).__qualname__}({said})"


def _refuse(self: object, name: str, *_: object) -> None:
    raise AttributeError(f"{type(self).__name__}.{name} cannot be changed: records are frozen")
