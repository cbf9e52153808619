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


def _mounts(subscription: Subscription[Any], roots: Roots) -> Source:
    from refloat_agent.events.mount_table import MountTableSource

    return MountTableSource(subscription, roots.proc / "self" / "mountinfo")


def _processes(subscription: Subscription[Any], roots: Roots) -> Source:
    from refloat_agent.events.processes import ProcessSource

    return ProcessSource(subscription, roots)


def _links(subscription: Subscription[Any], _: Roots) -> Source:
    from refloat_agent.events.links import LinkSource

    return LinkSource(subscription)


def _files(subscription: Subscription[Any], roots: Roots) -> Source:
    from refloat_agent.events.files import file_source

    return file_source(subscription, roots)


def _cgroups(subscription: Subscription[Any], roots: Roots) -> Source:
    from refloat_agent.events.files import cgroup_source

    return cgroup_source(subscription, roots)


def _devices(subscription: Subscription[Any], _: Roots) -> Source:
    from refloat_agent.events.devices import DeviceSource

    return DeviceSource(subscription)


def _pressure(subscription: Subscription[Any], roots: Roots) -> Source:
    from refloat_agent.events.pressure import PressureSource

    return PressureSource(subscription, roots.proc)


def _clock(subscription: Subscription[Any], _: Roots) -> Source:
    from refloat_agent.events.clock_set import ClockSetSource

    return ClockSetSource(subscription)


def _units(subscription: Subscription[Any], _: Roots) -> Source:
    from refloat_agent.events.units import UnitSource

    return UnitSource(subscription)


def _kernel_log(subscription: Subscription[Any], _: Roots) -> Source:
    from refloat_agent.events.kernel_log import KernelLogSource

    return KernelLogSource(subscription)


SOURCES: Final[Mapping[type[wakes.Wake], Offer]] = MappingProxyType(
    {
        wakes.MountTable: Offer("mounts", _mounts),
        wakes.LinkChange: Offer("links", _links),
        wakes.ProcessExit: Offer("processes", _processes),
        wakes.UnitChange: Offer("units", _units),
        wakes.FileChange: Offer("files", _files),
        wakes.DeviceChange: Offer("devices", _devices),
        wakes.Pressure: Offer("pressure", _pressure),
        wakes.CgroupEmpty: Offer("cgroups", _cgroups),
        wakes.KernelLog: Offer("kernel log", _kernel_log),
        wakes.ClockSet: Offer("clock", _clock),
    }
)
