# SPDX-License-Identifier: Apache-2.0
"""The node's checks as the configuration has them: read at the start, when told to, and when the nhc.conf changes.

A new configuration that is wrong changes nothing: the checks that run go on, and the log and `refloat status` say why.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import structlog

from refloat_agent.config import AgentSettings
from refloat_agent.ports import Clock
from refloat_checks import registry
from refloat_checks.api import When
from refloat_checks.facts import Facts
from refloat_checks.registry import NHC_SCRIPTS
from refloat_checks.runner import Runner
from refloat_checks.wakes import Wake
from refloat_contract.errors import Misconfigured

if TYPE_CHECKING:
    from refloat_checks.nhc.live import NhcConf

log = structlog.get_logger(__name__)

# The keys of agent.toml that a reload takes over. Any other takes a restart; so does `nhc_conf`, for whose drains are
# adopted depends on it.
_OF_CHECKS: Final = frozenset({"check", "nhc_compat", "nhc_interval_s"})
_MOST_NHC_S: Final = 45.0
_Stamp: TypeAlias = tuple[tuple[str, int, int, int], ...]


def load_nhc_conf(settings: AgentSettings, clock: Clock) -> "NhcConf | None":
    """Read the nhc.conf whose lines are to be checks, if one is configured.

    Raises Misconfigured where it cannot be read, or one of its checks has the name of another check.
    """
    if settings.nhc_conf is None:
        return None
    from refloat_checks.nhc.live import NhcConf  # noqa: PLC0415 - 2 MB of language, for those who have an nhc.conf

    conf = NhcConf.load(
        settings.nhc_conf,
        strict=settings.nhc_compat == "strict",
        acts=settings.mode == "act",
        deadline_s=min(_MOST_NHC_S, 0.75 * settings.nhc_interval_s),
        clock=clock.boottime_s,
    )
    both = {spec.name for spec in settings.checks()} & {spec.name for spec in conf.specs()}
    if both:
        raise Misconfigured(f"check {min(both)!r} is named like a line of {settings.nhc_conf}")
    return conf


def _stamp(conf: Path) -> _Stamp:
    """What differs when the file, a script beside it, or the site's settings are others than before. Blocks."""
    from refloat_checks.nhc import sysconfig  # noqa: PLC0415 - only where there is an nhc.conf

    found = []
    scripts = conf.parent / NHC_SCRIPTS
    for path in (conf, Path(sysconfig.path()), scripts, *sorted(scripts.glob("*.nhc"))):
        with contextlib.suppress(OSError):  # not there (any more), which differs too
            stat = path.stat()
            found.append((str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


@dataclass(slots=True)
class Checklist:
    """The checks of one node, in a runner that is made anew with them."""

    settings: AgentSettings
    clock: Clock
    source: Callable[[], Facts]
    read_settings: Callable[[], AgentSettings] | None = None
    """Reads agent.toml again; without it only the nhc.conf is read again."""
    error: str = ""
    """What is wrong with the configuration on disk, which is therefore not the one that runs."""
    nhc: "NhcConf | None" = field(init=False)
    runner: Runner = field(init=False)
    _read: _Stamp = ()
    _told: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Read it all; blocks. Raises Misconfigured."""
        self._read = self._stamp()
        self.nhc, self.runner = self._made(self.settings)

    def _stamp(self) -> _Stamp:
        return _stamp(self.settings.nhc_conf) if self.settings.nhc_conf is not None else ()

    def _made(self, settings: AgentSettings) -> "tuple[NhcConf | None, Runner]":
        specs, nhc = settings.checks(), load_nhc_conf(settings, self.clock)
        if nhc is None:
            return None, Runner(specs, self.source, self.clock.boottime_s, offset_s=settings.check_offset_s)
        specs += nhc.specs(settings.nhc_interval_s)
        return nhc, Runner(
            specs, self.source, self.clock.boottime_s, find_look=nhc.look_of, offset_s=settings.check_offset_s
        )

    def wakes(self) -> dict[str, tuple[Wake, ...]]:
        """What wakes which check; those that are looked at on an occasion (before a resume, idle) are not woken."""
        of = registry.wakes_of if self.nhc is None else self.nhc.wakes_of
        return {spec.name: of(spec) for spec in self.runner.specs if spec.when is When.ALWAYS}

    def tell(self) -> None:
        """Read the configuration again, soon."""
        self._told.set()

    async def run(self, on_change: Callable[[Runner], None]) -> None:
        """Read the configuration again when told to, and when the nhc.conf has changed, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._told.wait()
            if self._told.is_set() or await asyncio.to_thread(self._stamp) != self._read:
                self._told.clear()
                await self._reread(on_change)

    def _pause_s(self) -> float | None:
        """Until the next pass over the nhc.conf: a node is woken once for both."""
        if self.settings.nhc_conf is None:
            return None
        now_s, interval_s = self.clock.wall_ns() / 1e9 - self.settings.check_offset_s, self.settings.nhc_interval_s
        return (math.floor(now_s / interval_s) + 1) * interval_s - now_s

    async def _reread(self, on_change: Callable[[Runner], None]) -> None:
        try:
            self._read, settings, nhc, runner = await asyncio.to_thread(self._all_anew)
        except Misconfigured as error:
            self.error = str(error)
            log.error("checks_not_reloaded", error=self.error)  # noqa: TRY400 - the sentence says it all
            return
        self.error = ""
        self.settings, self.nhc, self.runner = settings, nhc, runner
        log.info("checks_reloaded", checks=len(runner.specs))
        on_change(runner)

    def _all_anew(self) -> "tuple[_Stamp, AgentSettings, NhcConf | None, Runner]":
        # Before the file is read: what is written while it is read is seen as a change later.
        self._read = self._stamp()
        found = self.read_settings() if self.read_settings is not None else self.settings
        settings = self.settings.model_copy(update={key: getattr(found, key) for key in _OF_CHECKS})
        others = sorted(key for key in type(found).model_fields if getattr(found, key) != getattr(settings, key))
        if others:
            log.warning("restart_needed", keys=others, why="a reload takes over the checks only")
        return self._read, settings, *self._made(settings)
