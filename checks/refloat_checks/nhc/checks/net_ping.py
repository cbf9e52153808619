# SPDX-License-Identifier: Apache-2.0
"""check_net_ping: that hosts answer, asked by a socket of our own; by ping(8) only where the kernel gives us none."""

from __future__ import annotations

import socket

from refloat_checks import pings
from refloat_checks.nhc.checks.launching import NOT_FOUND, launch
from refloat_checks.nhc.checks.options import Options, getopts
from refloat_checks.nhc.native import PASSED, BadWords, NativeCheck, NhcOutcome, NhcRun, failed
from refloat_checks.pings import NotAllowed, Ping
from refloat_contract.errors import Refused
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

NAME: Final = "check_net_ping"
_DEFAULTS: Final = {"c": "1", "t": "2", "w": "1"}
_FLAGS: Final = "Iisct" + "wW"
_GRACE_S: Final = 5.0


@record
class Wanted:
    """Whom to ask, and how: as a ping of ours, and as ping(8)'s options."""

    hosts: tuple[str, ...]
    ping: Ping
    options: tuple[str, ...]


def read_words(words: Sequence[str]) -> Wanted | NhcOutcome:
    """Read the arguments. Raises BadWords for numbers that are none."""
    given = getopts(NAME, ":I:W:c:i:s:t:w:", words)
    if isinstance(given, NhcOutcome):
        return given
    if not " ".join(given.rest):
        return failed(NAME, "No target(s) given for ping.")
    options = [(letter, given.last(letter, _DEFAULTS.get(letter, ""))) for letter in _FLAGS]
    return Wanted(
        given.rest, _ping(given), tuple(word for letter, text in options if text for word in (f"-{letter}", text))
    )


def _ping(given: Options) -> Ping:
    try:
        return Ping(
            count=int(given.last("c") or 1),
            interval_s=float(given.last("i") or 1),
            size=int(given.last("s") or 56),
            ttl=int(given.last("t") or _DEFAULTS["t"]),
            deadline_s=float(given.last("w") or _DEFAULTS["w"]),
            source=given.last("I"),
        )
    except ValueError as error:
        raise BadWords(f"a number is wanted: {error}") from error


async def _look(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    wanted = read_words(words)
    if isinstance(wanted, NhcOutcome):
        return wanted
    run.engine.require_loop()
    for host in wanted.hosts:
        if not await answers(host, wanted, run):
            return failed(NAME, f"No response received from {host}")
    return PASSED


async def answers(host: str, wanted: Wanted, run: NhcRun) -> bool:
    """Tell whether a host answers. Raises Refused where nobody can ask it."""
    try:
        family, address = await pings.resolve(run.facts, host)
        return await pings.ping(family, address, wanted.ping)
    except NotAllowed:
        return await _by_program(host, wanted, run)
    except (OSError, socket.gaierror):
        # It has no address, or there is no way to it.
        return False


async def _by_program(host: str, wanted: Wanted, run: NhcRun) -> bool:
    argv = ("ping", "-q", "-n", *wanted.options, host)
    done = await launch(argv, run, wanted.ping.deadline_s + _GRACE_S)
    if done.rc == NOT_FOUND and not run.strict:
        raise Refused(f"the kernel gives us no ICMP socket, and there is no ping(8): {done.error}")
    return done.rc == 0


CHECKS: Final = (NativeCheck(NAME, _look),)
