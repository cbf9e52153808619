# SPDX-License-Identifier: Apache-2.0
"""Check which servers this node's BeeGFS client knows, and how it is connected to them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import Field

from refloat_checks import sysfs
from refloat_checks.api import Finding, Limits, unknown
from refloat_checks.facts import Facts
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.proc import Roots
from refloat_checks.verdicts import a_few, verdict
from refloat_checks.wakes import MountTable, Wake

# A server's line is at the margin and ends with its number; what is known of it is indented below it.
_SERVER: Final = re.compile(r"^(\S+) \[ID: \d+\]")
_CONNECTION: Final = re.compile(r"(\w+): (\d+) \(([^)]*)\)")
_FALLBACK: Final = "fallback"
_TABLES: Final = {"meta": "meta_nodes", "storage": "storage_nodes"}


class BeegfsLimits(Limits):
    """Which servers a BeeGFS client must know, and how it must be connected. Each client on the node is judged.

    ```toml
    [[check]]
    name = "beegfs"
    type = "beegfs"
    min_storage = 12
    min_meta = 4
    transport = "RDMA"
    fallback = false
    ```
    """

    min_meta: int = Field(1, ge=0, description="Least number of metadata servers that each client knows.")
    min_storage: int = Field(1, ge=0, description="Least number of storage servers that each client knows.")
    connected: bool = Field(
        default=False, description="true: each must be connected at the moment; a client drops idle connections."
    )
    transport: MatchString | None = Field(None, description="Match string for the kind of all connections: `RDMA`.")
    fallback: bool = Field(default=True, description="false: no connection may have taken its fallback route.")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that a client knows, with the kinds of its connections; empty: it has none at the moment."""

    name: str
    kind: str
    transports: frozenset[str]
    is_fallback: bool


@dataclass(frozen=True, slots=True)
class Client:
    """One mounted BeeGFS."""

    name: str
    servers: tuple[Server, ...]


def parse(kind: str, text: str) -> tuple[Server, ...]:
    """Parse the client's table of the servers of one kind."""
    servers: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if found := _SERVER.match(line):
            servers.append((found[1], []))
        elif servers:
            servers[-1][1].append(line)
    return tuple(_server(name, kind, "\n".join(lines)) for name, lines in servers)


def _server(name: str, kind: str, text: str) -> Server:
    connections = [found for found in _CONNECTION.findall(text) if int(found[1])]
    return Server(
        name,
        kind,
        frozenset(transport for transport, _, _ in connections),
        any(_FALLBACK in route for _, _, route in connections),
    )


def read(roots: Roots) -> tuple[Client, ...]:
    """Read the tables of all clients."""
    return tuple(_client(place) for place in sysfs.places(roots.proc / "fs" / "beegfs", "*") if place.is_dir())


def _client(place: Path) -> Client:
    tables = ((kind, sysfs.value(place / table) or "") for kind, table in _TABLES.items())
    return Client(place.name, tuple(server for kind, text in tables for server in parse(kind, text)))


def judge(clients: Sequence[Client], limits: BeegfsLimits, name: str) -> Finding:
    """Compare what the clients know with what is asked for."""
    if not clients:
        return unknown(name, "there is no BeeGFS client: it is not loaded, or nothing is mounted")
    wrong = [complaint for client in clients for complaint in _complaints(client, limits)]
    servers = [server for client in clients for server in client.servers]
    connected = sum(1 for server in servers if server.transports)
    fine = f"{connected} of {len(servers)} BeeGFS servers are connected"
    return verdict(name, fine, wrong, measures={"servers": len(servers), "connected": connected})


def _complaints(client: Client, limits: BeegfsLimits) -> list[str]:
    wrong = []
    for kind, least in (("meta", limits.min_meta), ("storage", limits.min_storage)):
        count = sum(1 for server in client.servers if server.kind == kind)
        if count < least:
            wrong.append(f"{client.name} knows {count} {kind} servers (should be {least})")
    if idle := [each.name for each in client.servers if limits.connected and not each.transports]:
        wrong.append(f"{client.name} is not connected to {a_few(idle)}")
    if lost := [each.name for each in client.servers if each.is_fallback and not limits.fallback]:
        wrong.append(f"{client.name} has taken the fallback route to {a_few(lost)}")
    if others := [each.name for each in client.servers if not _fits(each, limits)]:
        wrong.append(f"{client.name} is not connected by {limits.transport} to {a_few(others)}")
    return wrong


def _fits(server: Server, limits: BeegfsLimits) -> bool:
    return limits.transport is None or all(matches(limits.transport, each) for each in server.transports)


def wakes(limits: BeegfsLimits) -> tuple[Wake, ...]:  # noqa: ARG001 - the same for all limits
    """Tell what wakes it: the mount table."""
    return (MountTable(),)


async def look(facts: Facts, limits: BeegfsLimits, name: str) -> Finding:
    """Read the client's tables, once per pass; the filesystem itself is not touched."""
    return judge(await facts.read("BeeGFS clients", lambda: read(facts.roots)), limits, name)
