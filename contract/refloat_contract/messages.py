# SPDX-License-Identifier: Apache-2.0
"""The messages, version 1: what travels over MQTT, as frozen pydantic models.

Unknown fields are ignored, so that a newer release can add some while a cluster is updated. Times are seconds (float)
or nanoseconds (``_ns``) of the sender's wall clock: for people and for the record, never compared across hosts.
"""

import re
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from refloat_contract.errors import BadMessage
from refloat_contract.words import (
    EventKind,
    NodeOrder,
    OnDeadline,
    OrderKind,
    Outcome,
    Phase,
    Purpose,
    RequestKind,
    Turn,
    Verdict,
    WaveState,
)

MAX_PAYLOAD_BYTES = 1 << 20
MAX_PARTS: Final = 200
"""Of an answer to an operator."""


class Message(BaseModel):
    """What all messages share: immutable, versioned, tolerant of fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: Literal[1] = 1


class Failure(BaseModel):
    """A check that does not pass, and its sentence."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    check: str
    message: str


class CycleInfo(BaseModel):
    """The cycle that a node is in."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    recipe: str
    wave: str = ""
    image: str = ""
    started_at: float = 0.0
    left: tuple[str, ...] = Field(default=(), description="the steps that are still to come")


class LastCycle(BaseModel):
    """How the last cycle of a node ended, and in which boot."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    outcome: Outcome
    wave: str = ""
    image: str = ""
    boot_id: str = ""
    ended_at: float = 0.0
    why: str = ""


class Runs(BaseModel):
    """What a node runs: the proof of its version. Every text is bounded; empty where the node does not tell."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    image: str = Field(default="", description="the image's id, of /etc/image-release")
    os: str = Field(default="", description="ID and VERSION_ID of /etc/os-release")
    kernel: str = ""
    cmdline: str = Field(default="", description="the kernel's command line without the words that name one node")
    versions: dict[str, str] = Field(
        default_factory=dict, description="of the packages and kernel modules that the configuration names"
    )
    digest: str = Field(default="", description="of all these: nodes that run the same have the same")


class NodeReport(BaseModel):
    """What an agent knows of its node."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: float
    boot_id: str
    phase: Phase
    since: float = Field(description="when the phase was entered, seconds of the node's wall clock")
    why: str = Field(default="", description="the one thing that is being waited for, or the hold's sentence")
    verdict: Verdict = Verdict.UNKNOWN
    failing: tuple[Failure, ...] = ()
    unknown: tuple[Failure, ...] = ()
    cycle: CycleInfo | None = None
    last_cycle: LastCycle | None = None
    image: str = Field(default="", description="the image that the node runs; empty where it names none")
    version: str = ""
    runs: Runs | None = None
    observe_only: bool = False


class NodeStatus(Message):
    """``node/<node>/status``, retained. The last will is ``online=false`` without a report."""

    node: str
    online: bool
    report: NodeReport | None = None


class Event(Message):
    """``node/<node>/event``: one thing that happened, told at least once; ``id`` makes it once.

    ``title``, ``message`` and ``tags`` are what Grafana shows as an annotation.
    """

    id: str = Field(min_length=1, max_length=128)
    node: str = Field(min_length=1, max_length=128)
    at_ns: int = Field(ge=0, description="nanoseconds since 1970; differs between all events of one node")
    kind: EventKind
    title: str
    message: str
    tags: str = "slurm"
    phase: Phase = Phase.IN_SERVICE
    recipe: str = ""
    cycle: str = ""
    wave: str = ""
    check: str = ""
    duration_s: float | None = None
    operator: str = Field(default="", description="who asked for it, where a person did")
    measures: dict[str, float] = Field(default_factory=dict, description="what the check measured; units in the names")
    boot_id: str = ""


class Request(Message):
    """``node/<node>/request``: an agent asks for a permit, or gives one back."""

    id: str
    node: str
    kind: RequestKind
    purpose: Purpose = Purpose.CYCLE
    cycle: str = Field(
        default="", description="the cycle's id; for a health drain, an id that stays while the drain is wanted"
    )
    recipe: str = ""
    wave: str = ""
    cause: str = Field(
        default="", description="the check whose failure asks for it: a drain, or a cycle that is its remedy"
    )
    why: str = ""
    at: float = Field(
        default=0.0, description="seconds of the node's wall clock; compared with its own reports alone; 0: not told"
    )


class Order(Message):
    """``node/<node>/order``: the coordinator answers a request, or hints.

    An agent takes a grant or denial only as the answer to its own outstanding ``request``: replayed and stale ones
    name another.
    """

    id: str
    node: str
    kind: OrderKind
    epoch: int
    request: str = ""
    cycle: str = ""
    why: str = ""
    retry_after_s: float = 0.0
    ttl_s: float = 60.0


class SlurmView(Message):
    """``node/<node>/slurm``, retained: the node as the coordinator last read it from Slurm."""

    node: str
    epoch: int
    seq: int = Field(description="the feed's read that saw the change; rises within an epoch")
    known: bool = Field(default=True, description="false: Slurm's node table lacks the node")
    flags: tuple[str, ...] = ()
    reason: str = ""
    reason_user: str = ""
    reason_at: int = 0
    boot_time: int = 0
    slurmd_start_time: int = 0


class CoordinatorStatus(Message):
    """``coordinator/status``, retained, the feed's heartbeat. The last will is ``online=false``.

    While these arrive with ``slurm_ok``, the retained view of every node is as fresh as the last of them.
    """

    online: bool
    epoch: int = Field(default=0, description="rises whenever a coordinator begins to lead")
    instance: str = Field(default="", description="which coordinator says this; of two that lead, one must not")
    ledger: str = Field(default="", description="the name of its ledger")
    host: str = ""
    seq: int = 0
    period_s: float = Field(default=5.0, description="between two heartbeats")
    nodes: int = Field(default=0, ge=0, description="how many nodes share this slurmctld and this broker; 0: not known")
    slurm_ok: bool = False
    version: str = ""


class OperatorRequest(Message):
    """``operator/<name>/request``: an operator's command line asks, as it would on the control socket.

    What changes something needs a ``ticket``, which the coordinator gives for this one request.
    """

    id: str = Field(pattern=r"^[0-9a-f]{16,64}$", description="of this request, also when it is said again")
    operator: str = Field(description="the name at the broker: that of the certificate, and of the topic")
    command: str = Field(min_length=1, max_length=64)
    arguments: dict[str, Any] = Field(default_factory=dict)
    ticket: str = Field(default="", max_length=64)


class OperatorAnswer(Message):
    """``operator/<name>/answer``: one part of an answer.

    All parts' texts in their order are JSON: ``{"result": …}``, ``{"error": {"kind": …, "message": …}}`` as on the
    control socket, or ``{"ticket": …}``, with which the same is to be asked again.
    """

    request: str = Field(max_length=64)
    answer: str = Field(max_length=64, description="which answer this is a part of")
    part: int = Field(ge=1, le=MAX_PARTS)
    parts: int = Field(ge=1, le=MAX_PARTS)
    text: str


_SHARE: Final = re.compile(r"[1-9][0-9]{0,6}|[1-9][0-9]?%|100%")


def _share(given: int | str) -> int | str:
    """A number of nodes as a number, a percentage as text."""
    text = str(given).strip()
    if _SHARE.fullmatch(text) is None:
        raise ValueError("a number of nodes such as 2, or a share of them such as '5%'")
    return text if text.endswith("%") else int(text)


Share: TypeAlias = Annotated[int | str, AfterValidator(_share)]


class WaveSpec(BaseModel):
    """What a wave shall do. ``max_unavailable`` and ``per_group`` count nodes that are out for any cause."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    nodes: str = Field(description="a hostlist: n[1-4]")
    recipe: str = "reboot"
    image: str = ""
    reason: str = Field(default="", max_length=200, description="why, for people; it stands in the nodes' reason")
    max_unavailable: Share = 1
    per_group: dict[str, Share] = Field(
        default_factory=dict, description="nodes that may be out at once in each group, by the kind of group: rack"
    )
    canary: int = Field(default=0, ge=0)
    soak_s: float = Field(default=0.0, ge=0)
    max_failures: int = Field(default=0, ge=0, description="more held nodes than this pause the wave")
    order: NodeOrder = NodeOrder.NAME
    window: str = Field(default="", description="when nodes may be taken out; several are joined by ';'")
    deadline_s: float | None = Field(
        default=None, gt=0, description="how long the jobs of a node are waited for; None: as long as they run"
    )
    on_deadline: OnDeadline = OnDeadline.HOLD
    blocker: str = Field(default="", description="a command that may keep nodes from being taken out now")
    node_deadline_s: float = Field(
        3600.0, gt=0, description="from the reboot to back in service, before a node is lost"
    )


class WaveNode(BaseModel):
    """One node within a wave."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    node: str
    turn: Turn
    lost: bool = Field(default=False, description="held, because it has not come back")
    since: float = 0.0
    phase: Phase = Phase.IN_SERVICE
    why: str = ""


class WaveReport(Message):
    """``wave/<id>``, retained: a wave as it stands. ``nodes`` holds those under way or held, not the whole set."""

    id: str
    spec: WaveSpec
    state: WaveState
    why: str = ""
    by: str = Field(default="", description="who began it")
    started_at: float = 0.0
    ended_at: float = 0.0
    counts: dict[Turn, int] = Field(default_factory=dict)
    nodes: tuple[WaveNode, ...] = ()


M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """A message as it travels: compact JSON."""
    return message.model_dump_json(exclude_none=True).encode()


def decode(model: type[M], payload: bytes) -> M:
    """Read a message.

    Raises:
        BadMessage: too large, not JSON, of another version, or a field is wrong; one line says which.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise BadMessage(f"{model.__name__} of {len(payload)} bytes is larger than {MAX_PAYLOAD_BYTES}")
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "payload"
        raise BadMessage(f"{model.__name__}: {where}: {first['msg']}") from error
