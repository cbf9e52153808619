# SPDX-License-Identifier: Apache-2.0
"""Check that systemd units are in the state in which they should be."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import Field

from refloat_checks import commands
from refloat_checks.api import Finding, Limits, failed
from refloat_checks.facts import Facts
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.verdicts import a_few, verdict
from refloat_checks.wakes import UnitChange, Wake
from refloat_contract.errors import Transient

_PROPERTIES: Final = ("Id", "Names", "LoadState", "ActiveState", "SubState", "UnitFileState", "NRestarts")
_SHOW: Final = ("systemctl", "show", "--no-pager", f"--property={','.join(_PROPERTIES)}")
# All that are loaded, in one command for all match strings of a pass. That takes half a second where units are many, so
# that a unit that is named is asked for by its name.
_ALL: Final = ("--all", "--", "*")
_NAME: Final = re.compile(r"[A-Za-z0-9:_.@-]+")


class SystemdLimits(Limits):
    """In which state units must be; all units that match are judged, and at least one must.

    ```toml
    [[check]]
    name = "munge"
    type = "systemd"
    unit = "munge.service"

    [[check]]
    name = "no-failed-units"
    type = "systemd"
    unit = "!*.scope"
    active = ["active", "inactive", "activating", "deactivating", "reloading", "maintenance"]
    severity = "warn"
    ```
    """

    unit: MatchString = Field(
        min_length=1, description="Match string for a unit's whole name or alias, as in `sshd.service` or `*.mount`."
    )
    active: tuple[str, ...] = Field(
        ("active",), min_length=1, description="States that are good, as `systemctl is-active` names them."
    )
    at_boot: bool | None = Field(None, description="true: it must start at boot; false: it must not.")
    max_restarts: int | None = Field(
        None, ge=0, description="So often at most systemd may have restarted it by itself since it was started."
    )


@dataclass(frozen=True, slots=True)
class Unit:
    """One loaded unit. `enablement` is empty for units without a file; restarts None where it has no such count."""

    name: str
    names: frozenset[str]
    active: str
    sub: str
    enablement: str
    restarts: int | None


def parse(text: str) -> tuple[Unit, ...]:
    """Parse what `systemctl show` prints: `Key=value` lines, an empty line between units.

    Raises ValueError if a unit has no name or state.
    """
    blocks = (dict(line.split("=", 1) for line in block.split("\n") if "=" in line) for block in text.split("\n\n"))
    return tuple(_unit(said) for said in blocks if said and said.get("LoadState") != "not-found")


def _unit(said: Mapping[str, str]) -> Unit:
    if not said.get("Id") or not said.get("ActiveState"):
        raise ValueError(f"systemctl told of a unit without name or state: {dict(said)!r:.80}")
    restarts = said.get("NRestarts", "")
    return Unit(
        said["Id"],
        frozenset({said["Id"], *said.get("Names", "").split()}),
        said["ActiveState"],
        said.get("SubState", ""),
        said.get("UnitFileState", ""),
        int(restarts) if restarts.isdigit() else None,
    )


def judge(units: Iterable[Unit], limits: SystemdLimits, name: str) -> Finding:
    """Compare the state of the units that are meant with what is asked for."""
    meant = [unit for unit in units if _is_meant(unit, limits.unit)]
    if not meant:
        return failed(name, f"no loaded unit is called {limits.unit}", units=0)
    bad = [unit for unit in meant if unit.active not in limits.active]
    wrong = [complaint for unit in meant for complaint in _complaints(unit, limits)]
    fine = f"{meant[0].name} is {meant[0].active}" if len(meant) == 1 else f"all {len(meant)} units are as they should"
    restarts = max((unit.restarts or 0 for unit in meant), default=0)
    told = [a_few(wrong)] if wrong else []
    return verdict(name, fine, told, measures={"units": len(meant), "bad_units": len(bad), "restarts": restarts})


def _is_meant(unit: Unit, pattern: str) -> bool:
    # "Not this name" must hold for all of its names, or an alias would let it slip in again.
    named = any(matches(pattern.removeprefix("!"), each) for each in unit.names)
    return named is not pattern.startswith("!")


def _complaints(unit: Unit, limits: SystemdLimits) -> list[str]:
    wrong = []
    if unit.active not in limits.active:
        wrong.append(f"{unit.name} is {unit.active} ({unit.sub})")
    if limits.at_boot is True and unit.enablement not in {"enabled", "enabled-runtime", "static", "alias", "generated"}:
        wrong.append(f"{unit.name} is {unit.enablement or 'without a unit file'} (should be enabled)")
    if limits.at_boot is False and unit.enablement in {"enabled", "enabled-runtime"}:
        wrong.append(f"{unit.name} is enabled (should not be)")
    if limits.max_restarts is not None and unit.restarts is not None and unit.restarts > limits.max_restarts:
        wrong.append(f"{unit.name} was restarted {unit.restarts} times (limit {limits.max_restarts})")
    return wrong


async def _show(*which: str) -> tuple[Unit, ...]:
    done = await commands.run((*_SHOW, *which))
    if done.returncode != 0:
        raise Transient(f"systemctl show ended with {done.returncode}: {done.complaint}")
    return parse(done.stdout)


def wakes(limits: SystemdLimits) -> tuple[Wake, ...]:
    """Tell what wakes it: the units, by their names; an alias wakes nothing."""
    return (UnitChange(limits.unit),)


async def look(facts: Facts, limits: SystemdLimits, name: str) -> Finding:
    """Ask systemd for the unit that is named, or for all units; each once per pass."""
    facts.require_running()
    which = ("--", limits.unit) if _NAME.fullmatch(limits.unit) else _ALL
    return judge(await facts.remember(("systemd units", *which), lambda: _show(*which)), limits, name)
