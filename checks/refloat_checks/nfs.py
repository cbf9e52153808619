# SPDX-License-Identifier: Apache-2.0
"""Check that an NFS server answers this node, as the kernel's counters of a mount tell."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import Field

from refloat_checks.api import AbsolutePath, Finding, Limits, unknown
from refloat_checks.facts import Facts
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.proc import read_text, unescape
from refloat_checks.verdicts import verdict
from refloat_checks.wakes import MountTable, Wake

_DEVICE: Final = re.compile(r"^device (\S+) mounted on (\S+) with fstype (nfs\d?)\b.*$", re.MULTILINE)
_VERSION: Final = re.compile(r"\bvers=([\d.]+)")
_TRANSPORT: Final = re.compile(r"^\s+xprt:\s+(\w+) (.+)$", re.MULTILINE)
_OPERATION: Final = re.compile(r"^\s+[A-Z_0-9]+: (\d+) (\d+) (\d+) \d+ \d+ \d+ \d+ \d+", re.MULTILINE)
# Behind a transport's name: port and binds, and but for UDP connects, connecting time and idle time; then what was
# sent and what was received.
_SENT: Final[Mapping[str, int]] = {"udp": 2, "tcp": 5, "rdma": 5}


class NfsLimits(Limits):
    """How an NFS server must answer. The mount itself is not touched: `type = "filesystem"` asks it.

    Its counters are read twice, `watch_s` apart: requests that went out between and none that was answered find FAILED.

    ```toml
    [[check]]
    name = "home"
    type = "nfs"
    path = "/home"
    version = "4.*"
    max_retransmitted_percent = 1
    fail_after = 3
    ```
    """

    path: AbsolutePath = Field(description="Mount point, as the mount table spells it.")
    version: MatchString | None = Field(None, description="Match string for the NFS version, as in `4.2`.")
    max_timeouts: int | None = Field(None, ge=0, description="So many requests at most timed out since it was mounted.")
    max_retransmitted_percent: float | None = Field(
        None, ge=0, le=100, description="Largest share of requests that had to be sent again since it was mounted."
    )
    watch_s: float = Field(2.0, ge=0, description="Time between the two looks; less than `deadline_s`.")


@dataclass(frozen=True, slots=True)
class NfsMount:
    """The counters of one NFS mount since it was mounted."""

    source: str
    version: str
    sent: int
    received: int
    operations: int
    transmissions: int
    timeouts: int


def parse(text: str) -> dict[str, NfsMount]:
    """Parse `/proc/self/mountstats`: the NFS mounts by their points; a later one covers an earlier one."""
    starts = list(_DEVICE.finditer(text))
    ends = [*(start.start() for start in starts), len(text)][1:]
    return {
        unescape(start[2]): _mount(unescape(start[1]), text[start.end() : end])
        for start, end in zip(starts, ends, strict=True)
    }


def _mount(source: str, text: str) -> NfsMount:
    # What other filesystems are mounted behind it adds no lines of these forms.
    version = _VERSION.search(text)
    transports = [(fields.split(), _SENT[kind]) for kind, fields in _TRANSPORT.findall(text) if kind in _SENT]
    operations = [tuple(map(int, found)) for found in _OPERATION.findall(text)]
    return NfsMount(
        source,
        version[1] if version else "",
        sum(int(fields[at]) for fields, at in transports),
        sum(int(fields[at + 1]) for fields, at in transports),
        sum(each[0] for each in operations),
        sum(each[1] for each in operations),
        sum(each[2] for each in operations),
    )


def judge(before: NfsMount | None, after: NfsMount | None, limits: NfsLimits, name: str) -> Finding:
    """Compare the counters of two looks with what is asked for."""
    if before is None or after is None:
        return unknown(name, f"no NFS is mounted on {limits.path}")
    wrong = []
    sent = after.sent - before.sent
    if sent > 0 and after.received == before.received:
        wrong.append(f"{after.source} answered none of {sent} requests within {limits.watch_s:g} s")
    if limits.version is not None and not matches(limits.version, after.version):
        wrong.append(f"{limits.path} is mounted with NFS {after.version or 'unknown'} (should be {limits.version})")
    if limits.max_timeouts is not None and after.timeouts > limits.max_timeouts:
        wrong.append(f"{after.timeouts} requests to {after.source} timed out (limit {limits.max_timeouts})")
    again = 100 * (after.transmissions - after.operations) / after.operations if after.operations else 0.0
    if limits.max_retransmitted_percent is not None and again > limits.max_retransmitted_percent:
        limit = f"limit {limits.max_retransmitted_percent:g}%"
        wrong.append(f"{again:.3g}% of requests to {after.source} had to be sent again ({limit})")
    measures = {"timeouts": after.timeouts, "retransmitted_percent": again}
    return verdict(name, f"{after.source} answers", wrong, measures=measures)


def wakes(limits: NfsLimits) -> tuple[Wake, ...]:  # noqa: ARG001 - the same for all limits
    """Tell what wakes it: the mount table."""
    return (MountTable(),)


async def look(facts: Facts, limits: NfsLimits, name: str) -> Finding:
    """Read the counters, wait, and read them again; no request is sent."""
    place = facts.roots.proc / "self" / "mountstats"
    before = await facts.read("NFS counters", lambda: parse(read_text(place)))
    if limits.path in before:
        await asyncio.sleep(limits.watch_s)
    after = await facts.read(f"NFS counters again for {name}", lambda: parse(read_text(place)))
    return judge(before.get(limits.path), after.get(limits.path), limits, name)
