# SPDX-License-Identifier: Apache-2.0
"""JSON by the C functions behind `json`, without the rest of it: for commands that ask one question and end.

`json` compiles regular expressions when it is imported, which takes longer than the question. Where Python's
implementation has no such functions, `json` itself is used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


class _Plainly:
    """How a scanner reads: as json.loads does by default. `parse_constant` is for NaN and infinities."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


def loads(data: bytes) -> Any:
    """Read one document. Raises ValueError for what is none."""
    text = data.decode().strip(" \t\n\r")
    try:
        found, end = _scanner()(text, 0)
    except StopIteration as error:
        raise ValueError(f"no JSON at character {error.value}") from None
    if end != len(text):
        raise ValueError(f"more than one document, from character {end}")
    return found


def _scanner() -> Callable[[str, int], tuple[Any, int]]:
    try:
        from _json import make_scanner  # noqa: PLC0415 - where there is one
    except ImportError:
        from json import JSONDecoder  # noqa: PLC0415 - slow

        return JSONDecoder().raw_decode
    how: Any = _Plainly
    found: Callable[[str, int], tuple[Any, int]] = make_scanner(how)
    return found


def flat(values: Mapping[str, str | float | None]) -> str:
    """Write an object of plain values."""
    return "{" + ", ".join(f"{_written(name)}: {_written(value)}" for name, value in values.items()) + "}"


def _written(value: str | float | None) -> str:
    try:
        from _json import encode_basestring_ascii  # noqa: PLC0415 - where there is one
    except ImportError:
        from json.encoder import encode_basestring_ascii  # noqa: PLC0415 - slow
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else repr(value)
