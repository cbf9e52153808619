# SPDX-License-Identifier: Apache-2.0
"""Check that hosts answer to ping."""

from pydantic import Field

from refloat_checks.api import Finding, Limits, failed, passed
from refloat_checks.facts import Facts
from refloat_checks.nhc.checks.net_ping import Wanted, answers
from refloat_checks.nhc.native import NhcRun
from refloat_checks.pings import Ping


class PingLimits(Limits):
    """Who must answer, and how soon.

    ```toml
    [[check]]
    name = "storage-answers"
    type = "ping"
    hosts = ["mds1", "10.0.0.2"]
    count = 3
    timeout_s = 5
    fail_after = 3
    ```
    """

    hosts: tuple[str, ...] = Field(
        min_length=1, description="Names or addresses; all must answer, one after the other."
    )
    count: int = Field(1, ge=1, description="So many requests, all of which must be answered.")
    spacing_s: float = Field(1.0, gt=0, description="Time between them.")
    timeout_s: float = Field(1.0, gt=0, description="So long each host has for all its answers.")
    size_bytes: int = Field(56, ge=0, le=65000, description="Bytes of data in each request.")
    ttl: int | None = Field(
        None, ge=1, le=255, description="So many routers may be in between; without it the kernel's."
    )
    source: str = Field("", description="Device or address that requests are sent from.")

    @property
    def wanted(self) -> Wanted:
        """What is asked, as a ping of ours and as ping(8)'s options."""
        ping = Ping(self.count, self.spacing_s, self.size_bytes, self.ttl, self.timeout_s, self.source)
        options = {
            "-c": self.count,
            "-i": f"{self.spacing_s:g}",
            "-s": self.size_bytes,
            "-t": self.ttl,
            "-w": max(1, round(self.timeout_s)),
            "-I": self.source or None,
        }
        words = tuple(word for flag, value in options.items() if value is not None for word in (flag, str(value)))
        return Wanted(self.hosts, ping, words)


async def look(facts: Facts, limits: PingLimits, name: str) -> Finding:
    """Ask each host in turn, by a socket of our own; by ping(8) where the kernel gives us none."""
    facts.require_running()
    wanted, run = limits.wanted, NhcRun(facts, {})
    silent = [host for host in limits.hosts if not await answers(host, wanted, run)]
    if silent:
        return failed(name, f"no answer from {', '.join(silent)}", silent=len(silent))
    return passed(name, f"{', '.join(limits.hosts)} answered", silent=0)
