# SPDX-License-Identifier: Apache-2.0
"""Operators: who may ask the coordinator over MQTT, by the names of their certificates, and answers cut to size.

What travels is the same JSON as on the control socket. An answer may be larger than a broker lets pass, so it is sent
in parts; each answer has an id of its own, since one that was asked for again may differ from the first.
"""

import re
from collections.abc import Iterator
from typing import Final

from refloat_contract.errors import BadMessage
from refloat_contract.messages import OperatorAnswer

ANY: Final = "refloat-operator"
"""How their names begin; this alone is the name of those who only look on, and ask nothing."""
PREFIX: Final = f"{ANY}-"
"""What an operator's certificate is called by, before the name of the user."""

PART_CHARACTERS: Final = 200_000
"""At most four bytes each, or two where JSON escapes them: a message is below MAX_PAYLOAD_BYTES whatever it says."""

# A user of the operating system. It stands in a program's argument, in reasons and in the record.
_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,31}")


def is_user(text: str) -> bool:
    """Whether ``text`` can be the name of a user."""
    return _USER.fullmatch(text) is not None


def user_of(name: str) -> str:
    """The user whom a name at the broker stands for.

    Raises:
        BadMessage: it is no operator's name: a node's, or that of somebody who may only look on.
    """
    user = name.removeprefix(PREFIX)
    if not name.startswith(PREFIX) or not is_user(user):
        raise BadMessage(f"{name!r} is not the name of an operator: {PREFIX}USER")
    return user


def parts(text: str, *, request: str, answer: str) -> Iterator[OperatorAnswer]:
    """An answer as it is sent."""
    total = max(1, -(-len(text) // PART_CHARACTERS))
    for number in range(total):
        piece = text[number * PART_CHARACTERS : (number + 1) * PART_CHARACTERS]
        yield OperatorAnswer(request=request, answer=answer, part=number + 1, parts=total, text=piece)


class Assembly:
    """Puts an answer together from its parts, in whatever order they come, and however often."""

    def __init__(self, request: str) -> None:
        self._request = request
        self._answer = ""
        self._pieces: dict[int, str] = {}

    def add(self, part: OperatorAnswer) -> str | None:
        """The whole text once it is there; None before, and for parts of answers to somebody else's request."""
        if part.request != self._request or part.part > part.parts:
            return None
        if part.answer != self._answer:
            self._answer, self._pieces = part.answer, {}
        self._pieces[part.part] = part.text
        if len(self._pieces) < part.parts:
            return None
        return "".join(self._pieces[number] for number in sorted(self._pieces))
