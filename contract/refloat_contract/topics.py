# SPDX-License-Identifier: Apache-2.0
"""The topics: the only place that spells one.

refloat/v1/<cluster>/node/<node>/{status,event,request,order,slurm}
refloat/v1/<cluster>/wave/<id>
refloat/v1/<cluster>/coordinator/status
refloat/v1/<cluster>/operator/<name>/{request,answer}
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from refloat_contract.errors import BadMessage, Misconfigured

ROOT: Final = "refloat"
VERSION: Final = "v1"
_LEVEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Kind(StrEnum):
    """What a topic carries, named after its last level; ``wave`` for ``wave/<id>``, an operator's by two levels."""

    STATUS = "status"
    EVENT = "event"
    REQUEST = "request"
    ORDER = "order"
    SLURM = "slurm"
    WAVE = "wave"
    COORDINATOR = "coordinator"
    ASKS = "operator/request"
    ANSWER = "operator/answer"


NODE_KINDS: Final = frozenset({Kind.STATUS, Kind.EVENT, Kind.REQUEST, Kind.ORDER, Kind.SLURM})


@dataclass(frozen=True, slots=True)
class Address:
    """A topic taken apart; ``name`` is the node, the wave or the operator, and empty for the coordinator."""

    cluster: str
    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one cluster.

    Raises:
        Misconfigured: the cluster's name cannot be a topic level.
    """

    cluster: str

    def __post_init__(self) -> None:
        if not is_level(self.cluster):
            raise Misconfigured(
                f"cluster name {self.cluster!r} cannot stand in an MQTT topic: use letters, digits, '.', '_' and '-'"
            )

    def node(self, node: str, kind: Kind) -> str:
        """The topic of one kind of one node; ``+`` stands for all nodes in a subscription."""
        return f"{ROOT}/{VERSION}/{self.cluster}/node/{node}/{kind}"

    def any_version(self, node: str, kind: Kind) -> str:
        """A subscription that also hears other versions of the contract, so that they can be named and counted."""
        return f"{ROOT}/+/{self.cluster}/node/{node}/{kind}"

    def wave(self, wave: str) -> str:
        """The topic of one wave; ``+`` stands for all."""
        return f"{ROOT}/{VERSION}/{self.cluster}/wave/{wave}"

    def coordinator(self) -> str:
        """The topic where the coordinator says that it lives, and its epoch."""
        return f"{ROOT}/{VERSION}/{self.cluster}/coordinator/status"

    def asks(self, operator: str) -> str:
        """The topic where an operator asks the coordinator, by the operator's name at the broker."""
        return f"{ROOT}/{VERSION}/{self.cluster}/operator/{operator}/request"

    def any_asks(self) -> str:
        """A subscription to what all operators ask, by any version of the contract."""
        return f"{ROOT}/+/{self.cluster}/operator/+/request"

    def answer(self, operator: str) -> str:
        """The topic where an operator is answered."""
        return f"{ROOT}/{VERSION}/{self.cluster}/operator/{operator}/answer"


def is_level(text: str) -> bool:
    """Whether ``text`` may be one level of a topic."""
    return _LEVEL.fullmatch(text) is not None


def parse(topic: str) -> Address:
    """Take a topic apart.

    Raises:
        BadMessage: not a topic of ours, or of another version of the contract.
    """
    levels = topic.split("/")
    if levels[0] != ROOT or len(levels) < 5:  # noqa: PLR2004 - root, version, cluster, and at least two more
        raise BadMessage(f"topic {topic!r} is not one of refloat's")
    if levels[1] != VERSION:
        raise BadMessage(f"topic {topic!r} is of contract version {levels[1]!r}; this release speaks {VERSION}")
    match levels[2:]:
        case [cluster, "node", node, kind] if kind in NODE_KINDS:
            return Address(cluster, Kind(kind), node)
        case [cluster, "wave", wave]:
            return Address(cluster, Kind.WAVE, wave)
        case [cluster, "coordinator", "status"]:
            return Address(cluster, Kind.COORDINATOR, "")
        case [cluster, "operator", name, "request"]:
            return Address(cluster, Kind.ASKS, name)
        case [cluster, "operator", name, "answer"]:
            return Address(cluster, Kind.ANSWER, name)
        case _:
            raise BadMessage(f"topic {topic!r} is not in contract {VERSION}")
