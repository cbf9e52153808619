# SPDX-License-Identifier: Apache-2.0
"""Find NHC's checks by their names."""

from collections.abc import Mapping
from typing import Final

from refloat_checks.nhc.checks import (
    cmd,
    daemons,
    devices,
    dmi,
    file_contents,
    file_stat,
    file_tests,
    gpus,
    load,
    machine_checks,
    memory,
    moab,
    mounting,
    net_ping,
    net_sockets,
    people,
    resources,
    services,
    space,
)
from refloat_checks.nhc.native import NativeCheck

_MODULES: Final = (
    cmd,
    daemons,
    devices,
    dmi,
    file_contents,
    file_stat,
    file_tests,
    gpus,
    load,
    machine_checks,
    memory,
    moab,
    mounting,
    net_ping,
    net_sockets,
    people,
    resources,
    services,
    space,
)
_ALL: Final[Mapping[str, NativeCheck]] = {check.name: check for module in _MODULES for check in module.CHECKS}


def find(name: str) -> NativeCheck | None:
    """Find the native check of this name; None if NHC ships none of it."""
    return _ALL.get(name)


def names() -> tuple[str, ...]:
    """Name all native checks, in alphabetical order."""
    return tuple(sorted(_ALL))
