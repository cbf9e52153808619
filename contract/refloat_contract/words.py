# SPDX-License-Identifier: Apache-2.0
"""The vocabulary: every word that code, logs, messages and documents use, spelled once."""

from enum import StrEnum

from refloat_contract.status import Status as Status  # noqa: PLC0414 - it is one of them


class Phase(StrEnum):
    """Where a node's cycle is. A node without a cycle is IN_SERVICE."""

    IN_SERVICE = "IN_SERVICE"
    DRAINING = "DRAINING"
    STOPPING = "STOPPING"
    UNMOUNTING = "UNMOUNTING"
    RUNNING = "RUNNING"
    REBOOTING = "REBOOTING"
    MOUNTING = "MOUNTING"
    STARTING = "STARTING"
    CHECKING = "CHECKING"
    RESUMING = "RESUMING"
    HELD = "HELD"


class Verdict(StrEnum):
    """Findings over time, damped."""

    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    UNKNOWN = "UNKNOWN"


class Outcome(StrEnum):
    """How a cycle ended."""

    DONE = "done"
    HELD = "held"
    CANCELLED = "cancelled"


class EventKind(StrEnum):
    """What an event in the record tells."""

    AGENT_STARTED = "agent_started"
    DRAIN_SEEN = "drain_seen"
    PERMIT_GRANTED = "permit_granted"
    PERMIT_DENIED = "permit_denied"
    PHASE_ENTERED = "phase_entered"
    STEP_FAILED = "step_failed"
    REBOOT = "reboot"
    REBOOT_FORCED = "reboot_forced"
    BOOTED = "booted"
    RESUMED = "resumed"
    CANCELLED = "cancelled"
    HOLD = "hold"
    RELEASED = "released"
    CHECK_FAILED = "check_failed"
    CHECK_PASSED = "check_passed"
    HEALTH_DRAINED = "health_drained"
    HEALTH_RESUMED = "health_resumed"
    WAVE_STARTED = "wave_started"
    WAVE_PROMOTED = "wave_promoted"  # the canaries are sound: the rest may follow
    WAVE_PAUSED = "wave_paused"
    WAVE_RESUMED = "wave_resumed"
    WAVE_ABORTED = "wave_aborted"
    WAVE_ENDED = "wave_ended"
    NODE_LOST = "node_lost"
    INCIDENT_OPENED = "incident_opened"
    INCIDENT_CLOSED = "incident_closed"
    NODES_RETRIED = "nodes_retried"
    NODES_SKIPPED = "nodes_skipped"
    DEADLINE_PASSED = "deadline_passed"  # the jobs of a wave's node have not ended in time
    JOBS_ENDED = "jobs_ended"  # because an operator had said so


class Purpose(StrEnum):
    """What an agent asks a permit for: to take its node out of service, or to have an idle node's check looked at."""

    CYCLE = "cycle"
    HEALTH = "health"
    IDLE = "idle"


class RequestKind(StrEnum):
    """What an agent asks of the coordinator."""

    PERMIT = "permit"
    RELEASE = "release"


class OrderKind(StrEnum):
    """What the coordinator tells an agent. None of them acts on a node without Slurm's word."""

    GRANT = "grant"
    DENY = "deny"
    CANCEL = "cancel"  # an unused grant is withdrawn
    POKE = "poke"  # look at Slurm now


class WaveState(StrEnum):
    """Where a wave is."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    ABORTED = "aborted"


class Turn(StrEnum):
    """Where one node is within a wave."""

    WAITING = "waiting"
    MARKED = "marked"  # drained with the wave's trigger; the agent does the rest
    DONE = "done"
    HELD = "held"
    SKIPPED = "skipped"


class NodeOrder(StrEnum):
    """In which order a wave takes its nodes."""

    NAME = "name"  # as the hostlist has them
    IDLE_FIRST = "idle-first"
    SOONEST_FREE = "soonest-free"  # by the time limits of their jobs


class OnDeadline(StrEnum):
    """What becomes of a wave's node whose jobs have not ended in time."""

    HOLD = "hold"
    SKIP = "skip"
    REQUEUE = "requeue"
    CANCEL_JOBS = "cancel-jobs"
