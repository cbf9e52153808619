# SPDX-License-Identifier: Apache-2.0
"""Check that GPFS (IBM Storage Scale) is active on this node, as mmgetstate tells."""

from dataclasses import dataclass
from typing import Final

from pydantic import Field

from refloat_checks import commands
from refloat_checks.api import AbsolutePath, Finding, Limits, unknown
from refloat_checks.facts import Facts
from refloat_checks.verdicts import verdict
from refloat_checks.wakes import ProcessExit, Wake
from refloat_contract.errors import Transient

_HEADER: Final = "HEADER"
_UNKNOWN: Final = "unknown"


class GpfsLimits(Limits):
    """In which state GPFS must be on this node.

    ```toml
    [[check]]
    name = "gpfs"
    type = "gpfs"
    deadline_s = 30
    interval_s = 300
    ```
    """

    states: tuple[str, ...] = Field(("active",), min_length=1, description="States that are good.")
    program: AbsolutePath = Field("/usr/lpp/mmfs/bin/mmgetstate", description="Where mmgetstate is.")


@dataclass(frozen=True, slots=True)
class GpfsState:
    """What mmgetstate tells of this node."""

    node: str
    state: str


def parse(text: str) -> GpfsState:
    """Parse what `mmgetstate -Y` prints: a line of headings, then one of values, both with colons between.

    Raises ValueError if it tells no state.
    """
    rows = [line.split(":") for line in text.splitlines() if line.startswith("mmgetstate:")]
    match rows:
        case [[_, _, heading, *_] as names, values, *_] if heading == _HEADER:
            said = dict(zip(names, values, strict=False))
        case _:
            raise ValueError(f"mmgetstate said {text.strip()[:80]!r}")
    return GpfsState(said["nodeName"], said["state"])


def judge(gpfs: GpfsState, limits: GpfsLimits, name: str) -> Finding:
    """Compare the state with what is asked for."""
    if gpfs.state == _UNKNOWN and _UNKNOWN not in limits.states:
        return unknown(name, f"GPFS does not know its state on {gpfs.node}")
    wrong = [] if gpfs.state in limits.states else [f"GPFS is {gpfs.state} on {gpfs.node}"]
    return verdict(name, f"GPFS is {gpfs.state} on {gpfs.node}", wrong)


def wakes(limits: GpfsLimits) -> tuple[Wake, ...]:  # noqa: ARG001 - the same for all limits
    """Tell what wakes it: the end of GPFS's daemon."""
    return (ProcessExit("mmfsd", lambda process: process.comm == "mmfsd"),)


async def look(facts: Facts, limits: GpfsLimits, name: str) -> Finding:
    """Ask mmgetstate."""
    facts.require_running()
    done = await commands.run((limits.program, "-Y"))
    if done.returncode != 0:
        raise Transient(f"mmgetstate ended with {done.returncode}: {done.complaint}")
    return judge(parse(done.stdout), limits, name)
