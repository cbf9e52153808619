# SPDX-License-Identifier: Apache-2.0
"""Which source serves which wake-up. A source's module is loaded when a check asks for it."""

# ruff: noqa: PLC0415 - an agent pays for the sources that it uses

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from refloat_agent.events.source import Source, Subscription
from refloat_checks import wakes
from refloat_checks.proc import Roots

# Any: each source takes the one kind of wake-up that stands beside it below.
Make = Callable[[Subscription[Any], Roots], Source]


@dataclass(frozen=True, slots=True)
class Offer:
    """A source by its name, as status and log give it, and how it is made."""

    name: str
    make: Make


def _mount_table(subscription: Subscription[Any], roots: Roots) -> Source:
    from refloat_agent.events.mount_table import MountTableSource

    return MountTableSource(subscription, roots.proc / "self" / "mountinfo")


def _processes(subscription: Subscription[Any], roots: Roots) -> Source:
    from refloat_agent.events.processes import ProcessSource

    return ProcessSource(subscription, roots)


SOURCES: Final[Mapping[type[wakes.Wake], Offer]] = MappingProxyType(
    {
        wakes.MountTable: Offer("mounts", _mount_table),
        wakes.ProcessExit: Offer("processes", _processes),
    }
)
