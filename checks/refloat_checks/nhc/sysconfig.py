# SPDX-License-Identifier: Apache-2.0
"""The site's settings for NHC, in /etc/sysconfig/nhc or /etc/default/nhc: what they set counts for every line."""

# ruff: noqa: PLC0415, PTH112, PTH113, PTH118, PTH123 - the one-shot command imports what it runs, and pathlib is slow

from __future__ import annotations

import os

from refloat_checks.nhc import variables
from refloat_contract.errors import Misconfigured

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Final

    from refloat_checks.nhc.bridge import Answer

SOURCE_S: Final = 15.0


def path(name: str = "nhc") -> str:
    """Where NHC looks on this host: in /etc/default on Debian, in /etc/sysconfig elsewhere."""
    debian = os.path.isfile("/etc/debian_version") or not os.path.isdir("/etc/sysconfig")
    return os.path.join("/etc/default" if debian else "/etc/sysconfig", name)


def load(place: str, settings: dict[str, str], env: Mapping[str, str], warn: Callable[[str], None]) -> None:
    """Set what the file sets: without a shell where it is plain, else by bash. A file that is not there sets nothing.

    Raises Misconfigured where bash cannot read it.
    """
    try:
        lines = _lines(place)
    except OSError as error:
        warn(f"{place}:  {error.strerror}")
        return
    if any("NHC_MCHECK_" in line for line in lines):
        warn(f"{place}:  NHC_MCHECK_COMMAND is not run:  no host is found in a target of its kind")
    if not all(_take(line, settings) for line in lines):
        settings.update(_sourced(place, settings, env))


def _lines(place: str) -> list[str]:
    try:
        with open(place, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def _take(line: str, settings: dict[str, str]) -> bool:
    """Take over what a line sets; False where it takes a shell to tell."""
    from refloat_checks.nhc import words

    command = words.parse(line)
    if command is None or command.words:
        return False
    for name, word in command.assignments:
        value = words.joined(word, settings.get)
        if value is None:
            return False
        settings[name] = value
    return True


def _sourced(place: str, settings: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    import asyncio

    from refloat_checks.nhc.bridge import Bridge

    async def refuse(asked: Sequence[str]) -> Answer:
        raise Misconfigured(f"{place} calls {asked[0]}")

    async def run() -> dict[str, str]:
        bridge = await Bridge.start((), env, refuse)
        try:
            async with asyncio.timeout(SOURCE_S):
                await bridge.assign(settings)
                await bridge.watch(variables.SETTINGS)
                return (await bridge.source(place)).variables
        except TimeoutError as error:
            raise Misconfigured(f"{place}: bash has not read it within {SOURCE_S:g} s") from error
        finally:
            await bridge.aclose()

    return asyncio.run(run())
