# SPDX-License-Identifier: Apache-2.0
"""Check that a network link exists, is up, and is fast enough."""

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import Field

from refloat_checks import hardware
from refloat_checks.api import NO_MEASURES, Finding, Limits, failed, passed, unknown
from refloat_checks.device_names import fitting
from refloat_checks.facts import Facts
from refloat_checks.nhc.match_string import Glob
from refloat_checks.proc import Link
from refloat_checks.verdicts import a_few, verdict
from refloat_checks.wakes import LinkChange, Wake
from refloat_contract.words import Status

_GLOB: Final = frozenset("*?[\\(")


class LinkLimits(Limits):
    """What a link must be able to do.

    ```toml
    [[check]]
    name = "ib0"
    type = "link"
    interface = "ib0"
    min_speed_mbps = 100000
    ```
    """

    interface: Annotated[Glob, Field(min_length=1, pattern=r"^[^/\s]+$")] = Field(
        description="Network device, as in `ib0`, or a glob, as in `ib*`: there must be one, and all must be so."
    )
    up: bool = Field(default=True, description="false: the device need only exist.")
    min_speed_mbps: int | None = Field(None, gt=0, description="Least speed in Mb/s, as ethtool shows it.")
    module: str | None = Field(None, min_length=1, description="Kernel module that must be loaded for it, as in `gm`.")


def judge(link: Link | None, limits: LinkLimits, name: str) -> Finding:
    """Compare a link's state and speed with what is asked for."""
    if link is None:
        return failed(name, f"link {limits.interface} does not exist")
    if limits.up and not _is_up(link):
        return failed(name, f"link {link.name} is {_state(link)} (should be up)")
    if limits.min_speed_mbps is None:
        return passed(name, f"link {link.name} is {_state(link)}")
    if link.speed_mbps is None:
        return unknown(name, f"the driver of link {link.name} does not tell its speed")
    if link.speed_mbps < limits.min_speed_mbps:
        return failed(
            name,
            f"link {link.name} runs at {link.speed_mbps} Mb/s (limit {limits.min_speed_mbps} Mb/s)",
            speed_mbps=link.speed_mbps,
        )
    return passed(name, f"link {link.name} is up at {link.speed_mbps} Mb/s", speed_mbps=link.speed_mbps)


def _is_up(link: Link) -> bool:
    # "unknown" is what drivers without operational state say for ever, the loopback among them; carrier decides then.
    return link.operstate == "up" or (link.operstate == "unknown" and link.carrier is True)


def _state(link: Link) -> str:
    return "up" if _is_up(link) else link.operstate if link.operstate != "unknown" else "without carrier"


def worst(findings: Sequence[Finding], name: str) -> Finding:
    """Make one finding of those of several links."""
    if len(findings) == 1:
        return findings[0]
    said = {status: [each.message for each in findings if each.status is status] for status in Status}
    speeds = [each.measures["speed_mbps"] for each in findings if "speed_mbps" in each.measures]
    measures = {"speed_mbps": min(speeds)} if speeds else NO_MEASURES
    return verdict(name, a_few(said[Status.OK]), said[Status.FAILED], said[Status.UNKNOWN], measures)


def wakes(limits: LinkLimits) -> tuple[Wake, ...]:
    """Tell what wakes it: the link."""
    return (LinkChange(limits.interface),)


async def look(facts: Facts, limits: LinkLimits, name: str) -> Finding:
    """Look at the link, or at all that fit."""
    if limits.module is not None and limits.module not in await hardware.modules(facts):
        return failed(name, f"the module {limits.module} of link {limits.interface} is not loaded")
    if not _GLOB & set(limits.interface):
        return judge(await facts.link(limits.interface), limits, name)
    found = fitting(await hardware.network_devices(facts), limits.interface)
    if not found:
        return failed(name, f"there is no link {limits.interface}")
    return worst([judge(await facts.link(each), limits, name) for each in found], name)
