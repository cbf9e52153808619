# SPDX-License-Identifier: Apache-2.0
"""Check that a socket is there, or is not: by protocol, addresses, state, type, owner and program."""

from typing import Final, Self

from pydantic import Field, model_validator

from refloat_checks.api import Finding, Limits, failed, passed
from refloat_checks.facts import Facts
from refloat_checks.nhc.checks.net_sockets import find
from refloat_checks.nhc.match_string import MatchString

_LETTERS: Final = {
    "protocol": "p",
    "local": "l",
    "remote": "r",
    "state": "s",
    "socket_type": "t",
    "user": "u",
    "program": "d",
}


class SocketLimits(Limits):
    """Which socket must be there; all match strings that are given must fit the same one.

    ```toml
    [[check]]
    name = "ssh-listens"
    type = "socket"
    protocol = "tcp"
    local = "*:22"
    state = "LISTEN"
    program = "sshd*"
    ```
    """

    protocol: MatchString | None = Field(None, description="`tcp`, `udp`, `raw` or `unix`; `tcp6` for version 6 alone.")
    local: MatchString | None = Field(
        None, description="Local address, as in `0.0.0.0:22` or `:::22`; of a Unix socket its path."
    )
    remote: MatchString | None = Field(None, description="Remote address; `0.0.0.0:*` of one that listens.")
    state: MatchString | None = Field(
        None, description="`LISTEN`, `ESTABLISHED`; of Unix sockets `LISTENING`, `CONNECTED`."
    )
    socket_type: MatchString | None = Field(None, description="Of Unix sockets: `STREAM`, `DGRAM`, `SEQPACKET`.")
    user: MatchString | None = Field(None, description="Its owner's name; a Unix socket tells none.")
    program: MatchString | None = Field(None, description="First word of the title of a process that holds it open.")
    min_count: int = Field(1, ge=0, description="Least number of such sockets.")
    max_count: int | None = Field(None, ge=0, description="Largest number of such sockets; 0: there must be none.")

    @model_validator(mode="after")
    def _looks_for_something(self) -> Self:
        if not self.patterns:
            raise ValueError(f"one of the keys {', '.join(_LETTERS)} must say which socket is meant")
        if self.max_count is not None and self.max_count < self.min_count:
            raise ValueError("max_count must not be less than min_count (to forbid a socket: min_count = 0)")
        return self

    @property
    def patterns(self) -> dict[str, str]:
        """What is given, by the letters of NHC's options."""
        given = ((letter, getattr(self, key)) for key, letter in _LETTERS.items())
        return {letter: pattern for letter, pattern in given if pattern is not None}

    @property
    def asked(self) -> str:
        """What is looked for, in words."""
        given = ((key.removeprefix("socket_"), getattr(self, key)) for key in _LETTERS)
        return ", ".join(f"{what} {pattern}" for what, pattern in given if pattern is not None)


def judge(count: int, limits: SocketLimits, name: str) -> Finding:
    """Compare the number of sockets that fit with what is asked for."""
    if count < limits.min_count:
        least = f" ({count} of at least {limits.min_count})" if limits.min_count > 1 else ""
        return failed(name, f"there is no socket of {limits.asked}{least}", sockets=count)
    if limits.max_count is not None and count > limits.max_count:
        return failed(name, f"{count} sockets of {limits.asked} (at most {limits.max_count})", sockets=count)
    return passed(name, f"{count} sockets of {limits.asked}", sockets=count)


async def look(facts: Facts, limits: SocketLimits, name: str) -> Finding:
    """Look at the kernel's tables of sockets."""
    return judge(len(await find(facts, limits.patterns)), limits, name)
