# SPDX-License-Identifier: Apache-2.0
"""Check that this node's Lustre client is connected to all of its servers, as the kernel's import tables tell."""

import re
from collections import Counter
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

_FIELD: Final = re.compile(r"^ *(target|state): *(\S+)", re.MULTILINE)
_TARGET: Final = re.compile(r"(.+)-(MDT|OST)[0-9a-fA-F]{4}(?:_UUID)?")
_HEALTHY: Final = "healthy"


class LustreLimits(Limits):
    """How a Lustre client must be connected. Targets that an administrator has deactivated here do not count.

    ```toml
    [[check]]
    name = "lustre"
    type = "lustre"
    fsname = "scratch"
    min_osts = 40
    min_mdts = 2
    fail_after = 2
    ```
    """

    fsname: MatchString = Field(
        "*", description="Match string for filesystem names, as in the `scratch` of `/scratch`."
    )
    states: tuple[str, ...] = Field(
        ("FULL", "IDLE"), min_length=1, description="States of a connection that are good; `IDLE` ones are made on use."
    )
    min_osts: int = Field(1, ge=0, description="Least number of object storage targets.")
    min_mdts: int = Field(1, ge=0, description="Least number of metadata targets.")


@dataclass(frozen=True, slots=True)
class Import:
    """The client's side of one target; `kind` is MDT or OST."""

    target: str
    fsname: str
    kind: str
    state: str
    is_active: bool


@dataclass(frozen=True, slots=True)
class Client:
    """All targets that the client knows, and Lustre's own word for its health (empty: it has none)."""

    imports: tuple[Import, ...]
    health: str


def read(roots: Roots) -> Client:
    """Read the import tables: in debugfs, or under /proc with releases before 2.12."""
    parents = (roots.sys / "kernel" / "debug" / "lustre", roots.proc / "fs" / "lustre")
    places = [
        place for parent in parents for kind in ("mdc", "osc") for place in sysfs.places(parent, f"{kind}/*/import")
    ]
    imports = [_import(roots, place) for place in places]
    health = (sysfs.value(parent / "fs" / "lustre" / "health_check") for parent in (roots.sys, roots.proc))
    return Client(tuple(each for each in imports if each is not None), next(filter(None, health), ""))


def _import(roots: Roots, place: Path) -> Import | None:
    said = dict(_FIELD.findall(sysfs.value(place) or ""))
    found = _TARGET.fullmatch(said.get("target", ""))
    if found is None or "state" not in said:
        return None
    kind, device = place.parts[-3:-1]
    active = sysfs.value(roots.sys / "fs" / "lustre" / kind / device / "active")
    return Import(said["target"].removesuffix("_UUID"), found[1], found[2], said["state"], active != "0")


def judge(client: Client, limits: LustreLimits, name: str) -> Finding:
    """Compare the connections that are meant with what is asked for."""
    meant = [each for each in client.imports if each.is_active and matches(limits.fsname, each.fsname)]
    if not client.imports:
        return unknown(name, "no import table of Lustre can be read: it is not loaded, or debugfs is not mounted")
    bad = [f"{each.target} {each.state}" for each in meant if each.state not in limits.states]
    kinds = Counter(each.kind for each in meant)
    wrong = [f"{len(bad)} of {len(meant)} targets are not connected: {a_few(bad)}"] if bad else []
    for kind, least in (("MDT", limits.min_mdts), ("OST", limits.min_osts)):
        if kinds[kind] < least:
            wrong.append(f"{kinds[kind]} {kind}s of {limits.fsname} (should be {least})")
    if client.health and client.health != _HEALTHY:
        wrong.append(f"Lustre says of itself: {' '.join(client.health.split())}")
    measures = {"osts": kinds["OST"], "mdts": kinds["MDT"], "disconnected": len(bad)}
    return verdict(name, f"all {len(meant)} targets are connected", wrong, measures=measures)


def wakes(limits: LustreLimits) -> tuple[Wake, ...]:  # noqa: ARG001 - the same for all limits
    """Tell what wakes it: the mount table."""
    return (MountTable(),)


async def look(facts: Facts, limits: LustreLimits, name: str) -> Finding:
    """Read the import tables, once per pass; the filesystem itself is not touched."""
    return judge(await facts.read("Lustre imports", lambda: read(facts.roots)), limits, name)
