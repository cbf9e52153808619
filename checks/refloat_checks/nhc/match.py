# SPDX-License-Identifier: Apache-2.0
"""NHC's match strings: `glob*`, `/regular expression/`, `{n[01-10],login1}`, and `!` before any of them."""

from __future__ import annotations

from functools import lru_cache, partial

from refloat_checks.nhc import ere, globs, plain, ranges
from refloat_checks.nhc.language import BadPattern, matcher

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

_KEPT: Final = 1024


def matches(pattern: str, text: str, *, strict: bool = False) -> bool:
    """Tell whether a text matches a match string, as NHC on bash 5.2 does in the POSIX locale.

    A pattern that means nothing matches nothing, and with `!` everything: that is NHC's answer. With `strict` it raises
    BadPattern instead, which says at which character it goes wrong.
    """
    try:
        return _compiled(pattern, strict)(text)
    except BadPattern:
        if strict:
            raise
        return pattern.startswith("!") and pattern != "!/"


def compiled(pattern: str) -> Callable[[str], bool]:
    """Give what `matches` asks, for those who ask it of thousands of texts."""
    try:
        return _compiled(pattern, False)  # noqa: FBT003 - a cache's key
    except BadPattern:
        answer = pattern.startswith("!") and pattern != "!/"
        return lambda _: answer


@lru_cache(maxsize=_KEPT)
def _compiled(pattern: str, strict: bool) -> Callable[[str], bool]:  # noqa: FBT001 - a cache's key
    if not pattern.startswith("!"):
        return _positive(pattern, 0, strict=strict)
    positive = _positive(pattern, 1, strict=strict)
    return lambda text: not positive(text)


def _positive(whole: str, start: int, *, strict: bool) -> Callable[[str], bool]:
    pattern = whole[start:]
    if pattern == "/":
        raise BadPattern(whole, start + 1, "a lone slash begins a regular expression that has no end")
    try:
        if pattern[:1] == "/" == pattern[-1:]:
            start += 1
            if fits := plain.expression(pattern[1:-1]):
                return fits
            return matcher(ere.parse(pattern[1:-1]), anywhere=True)
        if pattern[:1] == "{" and pattern[-1:] == "}":
            if strict:
                ranges.check(pattern[1:-1])
            return partial(ranges.fits, pattern[1:-1])
        return plain.glob(pattern) or matcher(globs.parse(pattern), anywhere=False)
    except BadPattern as error:
        raise BadPattern(whole, start + error.column, error.what) from error
