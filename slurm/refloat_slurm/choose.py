# SPDX-License-Identifier: Apache-2.0
"""Choose the gateway: the one that is configured, or with ``auto`` the best that works here."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from refloat_contract.errors import RefloatError
from refloat_slurm.gateway import ClusterGateway
from refloat_slurm.via_pyslurm import PyslurmGateway
from refloat_slurm.via_scontrol import DEADLINE_S, ScontrolGateway

Kind: TypeAlias = Literal["auto", "scontrol", "pyslurm"]

PROBE_S: Final = 5.0
"""How long pyslurm may take to be imported and to read what the probe reads."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A gateway, and one sentence that says why it is this one."""

    gateway: ClusterGateway
    why: str


async def choose(
    kind: Kind,
    *,
    node: str | None = None,
    deadline_s: float = DEADLINE_S,
    probe_s: float = PROBE_S,
) -> Choice:
    """Pick a gateway. ``auto`` takes pyslurm only if it reads ``node`` (None: the whole table) within ``probe_s``.

    A pyslurm of another release than the site's Slurm can be imported and still fail, so being there is not enough.
    """
    match kind:
        case "scontrol":
            return Choice(ScontrolGateway(deadline_s=deadline_s), "scontrol, as configured")
        case "pyslurm":
            return Choice(PyslurmGateway(deadline_s=deadline_s), "pyslurm, as configured")
        case "auto":
            return await _best(node, deadline_s, probe_s)


async def _best(node: str | None, deadline_s: float, probe_s: float) -> Choice:
    probe = PyslurmGateway(deadline_s=probe_s)
    try:
        await (probe.nodes() if node is None else probe.node(node))
    except RefloatError as error:
        return Choice(ScontrolGateway(deadline_s=deadline_s), f"scontrol, because pyslurm does not work here: {error}")
    finally:
        await probe.aclose()
    what = node if node is not None else "the node table"
    return Choice(PyslurmGateway(deadline_s=deadline_s), f"pyslurm {probe.version}, which read {what}")
