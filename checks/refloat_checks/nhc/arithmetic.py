# SPDX-License-Identifier: Apache-2.0
"""The part of the shell's arithmetic that NHC's numbers can reach: `010` is octal, `5-4` is one, 64 bits wrap."""

from __future__ import annotations

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Final

_WORD: Final = r"[ \t\n]*(?:([0-9][0-9a-zA-Z@_#]*)|([A-Za-z_][A-Za-z0-9_]*)|([-+*/%()]))"
_PLAIN_DIGITS: Final = 18  # so many fit into 64 bits
_OCTAL: Final = frozenset("01234567")
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_DECIMAL: Final = 10
_BASES: Final = range(2, len(_DIGITS) + 1)


def wrap(number: int) -> int:
    """Give what is left of a number in 64 bits with a sign."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def is_plain(text: str) -> bool:
    """Tell whether this is a number as anybody would write it, and no larger than 64 bits hold."""
    plain = text.isdecimal() and text.isascii() and len(text) <= _PLAIN_DIGITS
    return plain and (text[0] != "0" or text == "0")


def evaluate(text: str) -> int | None:
    """Evaluate numbers with `+ - * / %` and brackets; None where the shell would complain.

    Names are variables that are not set: zero. What else the shell knows (comparisons, assignments, command
    substitution) is a complaint here.
    """
    if is_plain(text):
        return int(text)
    if text[:1] == "0" and len(text) <= _PLAIN_DIGITS and _OCTAL.issuperset(text):
        return int(text, 8)
    tokens = _tokens(text)
    if tokens is None:
        return None
    if not tokens:
        return 0
    try:
        value, rest = _sum(tokens)
    except (ValueError, ZeroDivisionError, IndexError):
        return None
    return None if rest else value


def _tokens(text: str) -> list[str] | None:
    import re  # noqa: PLC0415 - most numbers need none of it

    token = re.compile(_WORD)
    tokens = []
    at = 0
    text = text.rstrip(" \t\n")
    while at < len(text):
        found = token.match(text, at)
        if found is None:
            return None
        tokens.append(found[0].strip())
        at = found.end()
    return tokens


def _sum(tokens: list[str]) -> tuple[int, list[str]]:
    value, tokens = _product(tokens)
    while tokens and tokens[0] in {"+", "-"}:
        sign = 1 if tokens[0] == "+" else -1
        more, tokens = _product(tokens[1:])
        value = wrap(value + sign * more)
    return value, tokens


def _product(tokens: list[str]) -> tuple[int, list[str]]:
    value, tokens = _signed(tokens)
    while tokens and tokens[0] in {"*", "/", "%"}:
        operator = tokens[0]
        other, tokens = _signed(tokens[1:])
        value = wrap(value * other) if operator == "*" else _divide(value, other)[operator == "%"]
    return value, tokens


def _divide(value: int, other: int) -> tuple[int, int]:
    # Towards zero, as C does.
    quotient = abs(value) // abs(other) * (1 if (value < 0) is (other < 0) else -1)
    return wrap(quotient), value - quotient * other


def _signed(tokens: list[str]) -> tuple[int, list[str]]:
    if tokens[0] in {"+", "-"}:
        value, rest = _signed(tokens[1:])
        return (wrap(-value) if tokens[0] == "-" else value), rest
    if tokens[0] == "(":
        value, rest = _sum(tokens[1:])
        if rest[0] != ")":
            raise ValueError
        return value, rest[1:]
    return _number(tokens[0]), tokens[1:]


def _number(token: str) -> int:
    """Read `12`, `017`, `0x1f`, `36#zz`, or the name of a variable that is not set. Raises ValueError."""
    if token[0] not in "0123456789":
        if token[0].isalpha() or token[0] == "_":
            return 0
        raise ValueError(token)
    base, hash_sign, digits = token.partition("#")
    if hash_sign:
        return _digits(digits, int(base))
    if token[:2].lower() == "0x":
        return _digits(token[2:] or "0", 16)
    if token[0] == "0" and len(token) > 1:
        return _digits(token[1:], 8)
    return _digits(token, _DECIMAL)


def _digits(text: str, base: int) -> int:
    if not text or base not in _BASES:
        raise ValueError(text)
    value = 0
    for digit in text.lower():
        worth = _DIGITS.index(digit)
        if worth >= base:
            raise ValueError(text)
        value = wrap(value * base + worth)
    return value
