# SPDX-License-Identifier: Apache-2.0
"""The coordinator's settings; the reference in docs/ is made from the descriptions here."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from refloat_contract.reasons import DEFAULT_WORDS, Dialect, Word
from refloat_contract.words import EventKind
from refloat_coordinator.limit_settings import BreakerSettings, GroupKindSettings, LimitSettings, unknown_kind
from refloat_coordinator.permits.rules import Rules
from refloat_service.mqtt_settings import ClusterName, MqttSettings
from refloat_service.settings import Settings

_ADDRESS = re.compile(r"([A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]):\d{1,5}")


def _address(text: str) -> str:
    if text and not _ADDRESS.fullmatch(text):
        raise ValueError("write host:port, [::1]:port or :port; empty for none")
    return text


class SlurmSettings(Settings):
    """How Slurm is reached."""

    backend: Literal["auto", "scontrol", "pyslurm"] = Field(
        "auto", description="auto takes pyslurm where it fits the site's Slurm release, and scontrol elsewhere"
    )
    deadline_s: float = Field(15.0, gt=0, le=300, description="an answer of slurmctld that takes longer is none")


class FeedSettings(Settings):
    """The feed of Slurm's node table to the agents."""

    period_s: float = Field(
        1.0,
        ge=0.1,
        le=300,
        description="how often the node table is read, with one call to slurmctld however many nodes there are; "
        "a read that takes longer than half of this makes the next one wait for as long as it took",
    )
    heartbeat_s: float = Field(
        5.0,
        ge=0.1,
        le=300,
        description="how often agents are told that the feed is alive; more seldom where it would be more than 1,000 "
        "messages a second",
    )


class WaveSettings(Settings):
    """Waves."""

    blockers: tuple[str, ...] = Field(
        (),
        description="commands that members of `socket_group` may name as a wave's blocker, word for word; root may "
        "name any, since they run as this daemon",
    )


class OperatorsSettings(Settings):
    """Operators who come over MQTT with certificates of their own: docs/broker.md."""

    over_mqtt: Literal["no", "look", "act"] = Field(
        "look",
        description="what they may do: look; act: also begin and steer waves and close incidents, if Slurm's "
        "accounting has them as operator or administrator at that moment; no: they are not heard",
    )


class InfluxSettings(Settings):
    """The record in InfluxDB."""

    kind: Literal["none", "v1", "v2", "v3"] = Field(
        "none", description="none: events stay in the ledger; v1, v2, v3: InfluxDB 1.x, 2.x, 3.x"
    )
    url: str = Field("http://localhost:8086", pattern=r"^https?://[^\s]+$", description="where it listens")
    measurement: str = Field("slurm", pattern=r"^[A-Za-z0-9_][\w.-]*$", description="the measurement of all events")
    database: str = Field("slurmlog", description="v1, v3: the database")
    retention_policy: str = Field("", description="v1: the retention policy; empty: the database's own")
    username: str = Field("", description="v1: the user; empty: none")
    password_file: Path | None = Field(None, description="v1: the file that holds the user's password")
    org: str = Field("", description="v2: the organisation")
    bucket: str = Field("", description="v2: the bucket")
    token_file: Path | None = Field(None, description="v2, v3: the file that holds the token")
    deadline_s: float = Field(10.0, gt=0, le=300, description="a write that takes longer is tried again")
    sample_s: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="how often counts (nodes by phase, waves, the budget) are written, into measurements of their own; "
        "0: never",
    )

    @model_validator(mode="after")
    def _is_complete(self) -> "InfluxSettings":
        needed: dict[str, str | Path | None] = {}
        if self.kind in {"v1", "v3"}:
            needed = {"database": self.database}
        elif self.kind == "v2":
            needed = {"org": self.org, "bucket": self.bucket, "token_file": self.token_file}
        missing = [name for name, value in needed.items() if not value]
        if missing:
            raise ValueError(f'kind = "{self.kind}" also needs {", ".join(missing)}')
        return self


class WordSettings(Settings):
    """A trigger word of the site's own."""

    trigger: str = Field(pattern=r"^[a-z][a-z0-9-]*$", description="the first word of a reason that asks for a cycle")
    progress: str = Field(pattern=r"^[a-z][a-z0-9-]*$", description="the word that replaces it under way")
    recipe: str = Field(min_length=1, description="the recipe that both name")


class ReasonSettings(Settings):
    """The words in reasons; the same as the agents'."""

    words: tuple[WordSettings, ...] = Field((), description="trigger words besides reboot, gpfs-restart, reconfigure")
    health_prefix: str = Field("refloat:", min_length=1, description="what a health drain's reason starts with")
    adopted_prefixes: tuple[str, ...] = Field((), description='prefixes of drains that agents adopt, such as "NHC:"')

    def dialect(self) -> Dialect:
        """The words as reasons are read and written by."""
        own = tuple(Word(w.trigger, w.progress, w.recipe) for w in self.words)
        return Dialect((*own, *DEFAULT_WORDS), self.health_prefix, self.adopted_prefixes)


class HttpSettings(Settings):
    """Metrics and probes over HTTP."""

    listen: Annotated[str, AfterValidator(_address)] = Field(
        "127.0.0.1:9750",
        description="where /metrics (Prometheus), /healthz and /readyz are served, to everybody who gets there: "
        "host:port, :port for all addresses; empty: nowhere",
    )

    def address(self) -> tuple[str | None, int] | None:
        """Host and port; a host of None stands for all; None: nowhere."""
        host, _, port = self.listen.rpartition(":")
        return (host.strip("[]") or None, int(port)) if self.listen else None


class NotifySettings(Settings):
    """Whom to tell when a human must look: a command, or a webhook."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="its name in the log; with it goes what it was told")
    on: tuple[EventKind, ...] = Field(
        (EventKind.WAVE_PAUSED, EventKind.HOLD, EventKind.INCIDENT_OPENED, EventKind.NODE_LOST),
        description="the kinds of events that are told; also wave_ended, health_drained and all others of the record",
    )
    command: tuple[str, ...] = Field((), description="a program and its arguments; it reads JSON from its input")
    url: str = Field("", pattern=r"^(https?://[^\s]+)?$", description="where the same JSON is POSTed to")
    headers_file: Path | None = Field(
        None, description='a file of headers for that, a "Name: value" a line, readable by the daemon only'
    )
    deadline_s: float = Field(10.0, gt=0, le=300, description="a try that takes longer has failed")
    pause_s: float = Field(10.0, ge=0, le=3600, description="what happens within this time is told in one notification")

    @model_validator(mode="after")
    def _is_one_way(self) -> "NotifySettings":
        if bool(self.command) == bool(self.url):
            raise ValueError("set either command or url")
        if self.headers_file and not self.url.startswith("https://"):
            raise ValueError("headers_file holds secrets: url must begin with https://")
        return self


class LeadershipSettings(Settings):
    """Which of several coordinators leads."""

    lease_s: float = Field(
        15.0, ge=1, le=600, description="a leader that has not renewed its lease in the ledger for so long is gone"
    )
    standby: bool = Field(
        default=True, description="stand by while another one leads; false: a second coordinator ends with an error"
    )


class LogSettings(Settings):
    """The log."""

    format: Literal["auto", "journal", "json", "console"] = Field("auto", description="how lines look")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least that is logged")


class CoordinatorSettings(Settings):
    """refloat-coordinator."""

    cluster: ClusterName = Field("cluster", description="the cluster's name in MQTT topics; the same as the agents'")
    client_id: str = Field(
        "",
        description="the name at the broker; empty: made of the cluster's and the ledger's, so that whoever takes the "
        "ledger over gets what the broker keeps for it",
    )
    state_dir: Path = Field(Path("/var/lib/refloat"), description="where the ledger lies (coordinator.sqlite)")
    socket: Path = Field(Path("/run/refloat/coordinator.sock"), description="where the command line finds the daemon")
    socket_mode: Annotated[str, Field(pattern=r"^0?[0-7]{3}$")] = Field(
        "0600", description="who may use that socket; whoever may can read, and only some can act: see `socket_group`"
    )
    socket_group: str = Field(
        "",
        description="the socket's group, whose members may start and stop waves, as may root and the daemon's user; "
        "empty: the daemon's own group, which may not",
    )
    max_events: int = Field(100_000, ge=1000, description="how many events the ledger keeps; the oldest delivered go")
    ledger_deadline_s: float = Field(10.0, gt=0, le=300, description="a disk that takes longer is counted as not well")
    mqtt: MqttSettings = Field(default_factory=lambda: MqttSettings.model_validate({}), description="the MQTT broker")
    slurm: SlurmSettings = Field(
        default_factory=lambda: SlurmSettings.model_validate({}), description="how Slurm is reached"
    )
    feed: FeedSettings = Field(
        default_factory=lambda: FeedSettings.model_validate({}), description="the feed to the agents"
    )
    limits: LimitSettings = Field(
        default_factory=lambda: LimitSettings.model_validate({}), description="how many nodes may be out"
    )
    groups: dict[str, GroupKindSettings] = Field(
        default_factory=dict, description="kinds of group, by a name of yours: rack, switch, pdu, boot"
    )
    breaker: BreakerSettings = Field(
        default_factory=lambda: BreakerSettings.model_validate({}),
        description="one check that fails on many nodes at once",
    )
    operators: OperatorsSettings = Field(
        default_factory=lambda: OperatorsSettings.model_validate({}), description="operators who come over MQTT"
    )
    waves: WaveSettings = Field(default_factory=lambda: WaveSettings.model_validate({}), description="waves")
    influx: InfluxSettings = Field(
        default_factory=lambda: InfluxSettings.model_validate({}), description="the record in InfluxDB"
    )
    http: HttpSettings = Field(
        default_factory=lambda: HttpSettings.model_validate({}), description="metrics and probes over HTTP"
    )
    notify: tuple[NotifySettings, ...] = Field((), description="whom to tell when a human must look")
    leadership: LeadershipSettings = Field(
        default_factory=lambda: LeadershipSettings.model_validate({}), description="which of several coordinators leads"
    )
    reasons: ReasonSettings = Field(
        default_factory=lambda: ReasonSettings.model_validate({}), description="the words in reasons"
    )
    log: LogSettings = Field(default_factory=lambda: LogSettings.model_validate({}), description="the log")

    @model_validator(mode="after")
    def _tells_its_targets_apart(self) -> "CoordinatorSettings":
        names = [one.name for one in self.notify]
        if len(names) != len(set(names)):
            raise ValueError("notify: two targets have the same name, and so the same place in the record")
        return self

    @model_validator(mode="after")
    def _believes_only_a_broker_that_cannot_be_forged(self) -> "CoordinatorSettings":
        if self.operators.over_mqtt == "act" and self.mqtt.is_exposed:
            raise ValueError(
                'operators.over_mqtt = "act" needs mqtt.tls = true: whoever is on the network to the broker could give '
                "themselves out as an operator"
            )
        return self

    @model_validator(mode="after")
    def _knows_its_groups(self) -> "CoordinatorSettings":
        if wrong := unknown_kind(self.limits, self.groups):
            raise ValueError(wrong)
        return self

    def rules(self) -> Rules:
        """The limits, before anything was read from files or Slurm."""
        return self.limits.rules(self.groups)
