# SPDX-License-Identifier: Apache-2.0
"""Check that a network link exists, is up, and is fast enough."""

from pydantic import Field

from refloat_checks.api import Finding, Limits, failed, passed, unknown
from refloat_checks.facts import Facts
from refloat_checks.proc import Link


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

    interface: str = Field(min_length=1, pattern=r"^[^/\s]+$", description="Network device, as in `eth0` or `ib0`.")
    up: bool = Field(default=True, description="false: the device need only exist.")
    min_speed_mbps: int | None = Field(None, gt=0, description="Least speed in Mb/s, as ethtool shows it.")


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


async def look(facts: Facts, limits: LinkLimits, name: str) -> Finding:
    """Look at the link."""
    return judge(await facts.link(limits.interface), limits, name)
