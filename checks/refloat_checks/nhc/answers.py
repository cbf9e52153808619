# SPDX-License-Identifier: Apache-2.0
"""Answers what bash lines and site scripts ask NHC's library for: matches, sizes, counts, users, hardware."""

from __future__ import annotations

from refloat_checks.nhc import hardware_variables, login_defs, units
from refloat_checks.nhc.bridge import Answer
from refloat_checks.nhc.match import matches
from refloat_contract.errors import RefloatError

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Final

    from refloat_checks.facts import Facts

_UNITS: Final[Mapping[str, Callable[[str], object]]] = {
    "parse_size": units.parse_size,
    "unparse_size": lambda text: units.unparse_size(int(text)),
    "parse_count": units.parse_count,
    "unparse_count": lambda text: units.unparse_count(int(text)),
}
_PASSWD_FIELDS: Final = 3


class Answers:
    """Answers with the facts of one pass."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    async def answer(self, asked: Sequence[str]) -> Answer:
        """Answer one question; status 1 where there is no answer."""
        try:
            match asked:
                case ["match", text, pattern]:
                    return _truth(matches(pattern, text))
                case ["match_glob", text, pattern]:
                    return _truth(
                        matches(pattern if pattern[:1] not in "/{!" else f"[{pattern[:1]}]{pattern[1:]}", text)
                    )
                case ["match_range", text, ranges]:
                    return _truth(matches(ranges if ranges.startswith("{") else f"{{{ranges}}}", text))
                case ["uid", user]:
                    return Answer(0, str(await self._facts.uid(user)))
                case ["user", uid]:
                    return await self._user(uid)
                case ["hardware", name]:
                    return Answer(0, (await hardware_variables.values(self._facts)).get(name, "0"))
                case ["max_sys_uid"]:
                    return Answer(0, str(login_defs.max_sys_uid(await self._text("/etc/login.defs"))))
                case [verb, text] if verb in _UNITS:
                    return Answer(0, str(_UNITS[verb](text)) if text else "")
        except (RefloatError, OSError, ValueError, units.BadUnit) as error:
            return Answer(1, str(error))
        return Answer(1)

    async def _user(self, uid: str) -> Answer:
        if not uid.isdigit():
            return Answer(0, uid)
        for line in (await self._text("/etc/passwd")).splitlines():
            fields = line.split(":")
            if len(fields) >= _PASSWD_FIELDS and fields[2] == uid:
                return Answer(0, fields[0])
        return Answer(1)

    async def _text(self, path: str) -> str:
        data = await self._facts.probes.read(path, cap_bytes=1 << 20)
        return data.decode(errors="surrogateescape")


def _truth(found: bool) -> Answer:  # noqa: FBT001 - it is what it turns into
    return Answer(0 if found else 1)
