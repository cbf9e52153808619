# SPDX-License-Identifier: Apache-2.0
"""Where groups come from: files, ClusterShell and Slurm, read now and then; what cannot be read stays as it was."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog
from ClusterShell.Defaults import config_paths
from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException
from ClusterShell.NodeUtils import GroupResolverConfig, GroupResolverError, GroupSourceError

from refloat_contract.errors import Misconfigured, RefloatError, Transient
from refloat_coordinator import hostlists
from refloat_coordinator.limit_settings import GroupKindSettings
from refloat_coordinator.permits import groups
from refloat_coordinator.permits.groups import Named
from refloat_coordinator.permits.rules import Rules

log = structlog.get_logger(__name__)

Partitions = Callable[[], Awaitable[Mapping[str, str]]]

_DEADLINE_S: Final = 60.0
"""A command of a site's groups.conf may ask a slow database."""
_MAX_BYTES: Final = 64 << 20


def listed(kinds: Mapping[str, GroupKindSettings]) -> dict[str, Named]:
    """The groups that stand in the configuration, in files and in ClusterShell, by kind. May block.

    Raises:
        Misconfigured: a source cannot be read; the sentence says which, and the line.
    """
    return {kind: groups.joined(*_parts(kind, settings)) for kind, settings in kinds.items()}


def _parts(kind: str, settings: GroupKindSettings) -> list[Named]:
    parts: list[Named] = [{name: frozenset(hostlists.expand(nodes)) for name, nodes in settings.sets.items()}]
    if settings.topology is not None:
        text = _text(settings.topology, f"groups.{kind}.topology")
        parts.append(groups.topology(text, str(settings.topology), settings.level))
    if settings.file is not None:
        parts.append(groups.table(_text(settings.file, f"groups.{kind}.file"), str(settings.file)))
    if settings.clustershell is not None:
        parts.append(_clustershell(settings.clustershell, f"groups.{kind}.clustershell"))
    return parts


def _text(path: Path, key: str) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{key}: cannot read {path}: {error}") from error
    if len(text) > _MAX_BYTES:
        raise Misconfigured(f"{key}: {path} is larger than {_MAX_BYTES >> 20} MiB")
    return text


def _clustershell(source: str, key: str) -> Named:
    """All groups of one source. Its commands are the site's own: groups.conf belongs to root."""
    try:
        resolver = GroupResolverConfig(config_paths("groups.conf"))
        names = resolver.grouplist(source)
        return {name: frozenset(_nodes(resolver.group_nodes(name, source))) for name in names}
    except (GroupResolverError, GroupSourceError, NodeSetException) as error:
        raise Misconfigured(f"{key}: ClusterShell's groups of {source!r} cannot be read: {error}") from error


def _nodes(found: list[str]) -> list[str]:
    return [str(name) for text in found for name in NodeSet(text, resolver=RESOLVER_NOGROUP)]


class GroupSources:
    """Reads all sources again and again; ``rule`` is told when anything changed."""

    def __init__(
        self,
        kinds: Mapping[str, GroupKindSettings],
        rules: Rules,
        partitions: Partitions,
        rule: Callable[[Rules], None],
    ) -> None:
        self.troubles: dict[str, str] = {}
        """What could not be read the last time, by source, and why."""
        self._kinds = kinds
        self._rules = rules
        self._partitions = partitions
        self._rule = rule

    async def begin(self) -> None:
        """Read what stands in files.

        Raises:
            Misconfigured: a source cannot be read. Later that is no reason to end.
        """
        self._rules = replace(self._rules, listed=await self._listed())
        self._rule(self._rules)

    async def read(self) -> bool:
        """Read everything once; answers whether all of it could be."""
        rules = self._rules
        try:
            rules = replace(rules, listed=await self._listed())
            self._trouble("groups", "")
        except RefloatError as error:
            self._trouble("groups", str(error))
        try:
            told = await self._partitions()
            rules = replace(rules, told={name: _members(nodes) for name, nodes in told.items()})
            self._trouble("partitions", "")
        except RefloatError as error:
            self._trouble("partitions", str(error))
        self._took(rules)
        return not self.troubles

    async def run(self, sleep: Callable[[float], Awaitable[None]], every_s: float, again_s: float) -> None:
        """Read until cancelled: every ``every_s``, and after ``again_s`` what could not be read."""
        while True:
            await sleep(every_s if await self.read() else min(every_s, again_s))

    async def _listed(self) -> dict[str, Named]:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                return await asyncio.to_thread(listed, self._kinds)
        except TimeoutError as error:
            raise Transient(f"a source of groups did not answer within {_DEADLINE_S:g} s") from error

    def _took(self, rules: Rules) -> None:
        if rules != self._rules:
            self._rules = rules
            self._rule(rules)

    def _trouble(self, source: str, why: str) -> None:
        if why and self.troubles.get(source) != why:
            log.warning("groups_not_read", source=source, why=why)
        if why:
            self.troubles[source] = why
        elif self.troubles.pop(source, None):
            log.info("groups_read_again", source=source)


def _members(nodes: str) -> frozenset[str]:
    return frozenset(hostlists.expand(nodes)) if nodes else frozenset()
