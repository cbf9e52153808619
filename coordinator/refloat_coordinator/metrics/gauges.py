# SPDX-License-Identifier: Apache-2.0
"""What the coordinator knows as numbers, for Prometheus and for InfluxDB alike; pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from refloat_contract.words import Phase, Purpose, Turn, Verdict
from refloat_coordinator.fleet import Fleet
from refloat_coordinator.permits.breaker import Breaker
from refloat_coordinator.permits.permit import Permit
from refloat_coordinator.permits.rooms import Rooms
from refloat_coordinator.waves import wave as wave_rules
from refloat_coordinator.waves.wave import Wave


@dataclass(frozen=True, slots=True)
class Family:
    """Numbers of one kind: what they are, and by what they are told apart."""

    name: str
    help: str
    label: str = ""
    label_2: str = ""
    counts: bool = False
    """Only rises while the process lives."""


NODES: Final = Family(
    "nodes", "Nodes in Slurm's table by the phase that their agent reports; unheard: no agent has.", "phase"
)
VERDICTS: Final = Family("verdicts", "Nodes in Slurm's table by the verdict of their checks.", "verdict")
AGENTS: Final = Family("agents_online", "Nodes in Slurm's table whose agent is connected.")
OUT: Final = Family("nodes_out", "Nodes that are out of service, for whatever cause, or have leave to go.")
USED: Final = Family("budget_used", "Nodes that count against a limit of the budget.", "limit")
ALLOWED: Final = Family("budget_allowed", "Nodes that a limit of the budget allows to be out.", "limit")
PERMITS: Final = Family("permits", "Permits that are held, by what for.", "purpose")
WAVES: Final = Family("wave_nodes", "Nodes of a wave that is under way, by where they are in it.", "wave", "turn")
INCIDENTS: Final = Family("incidents_open", "Incidents of the breaker that are open.")

FLEET: Final = (NODES, VERDICTS, AGENTS, OUT, USED, ALLOWED, PERMITS, WAVES, INCIDENTS)
"""What is told of the nodes, also to InfluxDB."""

LEADS: Final = Family("leads", "1: this coordinator leads; 0: it stands by.")
EPOCH: Final = Family("epoch", "The epoch in which this coordinator leads.")
SLURM: Final = Family("slurm_answers", "1: the last read of Slurm's node table was good.")
READS: Final = Family("slurm_reads_total", "Good reads of Slurm's node table.", counts=True)
SAVES: Final = Family("ledger_saves", "1: what is decided can be saved; 0: nothing is decided.")
AGE: Final = Family("step_age_seconds", "How long ago the loop has taken its last step.")
BROKER: Final = Family("broker_connected", "1: the MQTT broker answers.")
MALFORMED: Final = Family("messages_malformed_total", "Messages that could not be read.", counts=True)
UNANSWERED: Final = Family(
    "operator_requests_dropped_total", "Requests of operators over MQTT that were too many, or too fast.", counts=True
)
WAITING: Final = Family("outbox_waiting", "Events that InfluxDB has not taken yet.")
REJECTED: Final = Family("outbox_rejected", "Events that InfluxDB will never take, set aside until the next start.")
DROPPED: Final = Family("outbox_dropped_total", "Events that were dropped undelivered for want of room.", counts=True)
WRITTEN: Final = Family("outbox_delivered_total", "Events that InfluxDB has taken.", counts=True)
FAILURES: Final = Family(
    "outbox_failures_total", "Writes that InfluxDB has not taken, and that were tried again.", counts=True
)
NOTICES: Final = Family("notifications_total", "Notifications by target and outcome.", "target", "outcome", counts=True)

DAEMON: Final = (
    LEADS,
    EPOCH,
    SLURM,
    READS,
    SAVES,
    AGE,
    BROKER,
    MALFORMED,
    UNANSWERED,
    WAITING,
    REJECTED,
    DROPPED,
    WRITTEN,
    FAILURES,
    NOTICES,
)
"""What is told of the coordinator itself."""

UNHEARD: Final = "unheard"


@dataclass(frozen=True, slots=True)
class Gauge:
    """One number; ``value_of`` and ``value_of_2`` are those of its family's labels."""

    family: Family
    value: float
    label: str = ""
    label_2: str = ""


def measure(
    fleet: Fleet, permits: Mapping[str, Permit], rooms: Rooms, waves: Iterable[Wave], breaker: Breaker
) -> list[Gauge]:
    """All numbers as they are now. What could be counted and is not there is 0, so that a curve comes down again."""
    known = [fleet.node(name) for name in fleet.known]
    reports = [node.report for node in known]
    phases = Counter(str(report.phase) if report else UNHEARD for report in reports)
    verdicts = Counter(str(report.verdict if report else Verdict.UNKNOWN) for report in reports)
    purposes = Counter(str(permit.purpose) for permit in permits.values())
    return [
        *(Gauge(NODES, phases[name], name) for name in (*map(str, Phase), UNHEARD)),
        *(Gauge(VERDICTS, verdicts[name], name) for name in map(str, Verdict)),
        Gauge(AGENTS, sum(node.online for node in known)),
        Gauge(OUT, len(fleet.outages.keys() | permits.keys())),
        *_budget(rooms),
        *(Gauge(PERMITS, purposes[name], name) for name in (str(Purpose.CYCLE), str(Purpose.HEALTH))),
        *(gauge for wave in waves for gauge in _wave(wave)),
        Gauge(INCIDENTS, len(breaker.open)),
    ]


def _budget(rooms: Rooms) -> Iterator[Gauge]:
    for limit, allowed, out in rooms.site.uses:
        yield Gauge(USED, len(out), limit.name)
        yield Gauge(ALLOWED, allowed, limit.name)


def _wave(wave: Wave) -> Iterator[Gauge]:
    counts = wave_rules.counts(wave)
    for turn in Turn:
        yield Gauge(WAVES, counts.get(turn, 0), wave.id, str(turn))
