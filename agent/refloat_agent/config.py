# SPDX-License-Identifier: Apache-2.0
"""The agent's configuration: agent.toml, as pydantic models whose descriptions are the reference in docs/."""

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from refloat_agent.recipes import (
    DEFAULT_LADDER,
    RETURN,
    Argv,
    OnFailure,
    Recipe,
    Rung,
    Step,
    StepKind,
    Way,
    short_form,
    why_refused,
    why_step_refused,
)
from refloat_agent.state import Policy
from refloat_agent.storage import Storage
from refloat_checks import registry
from refloat_checks.api import Severity
from refloat_checks.nhc.slurm_marking import LEADER
from refloat_contract.reasons import HOLD_WORD, RELEASE_WORD, Dialect, Word
from refloat_contract.topics import is_level
from refloat_contract.words import Phase
from refloat_service import affinity
from refloat_service.mqtt_settings import MqttSettings
from refloat_service.settings import Settings

ENV_PREFIX: Final = "REFLOAT_AGENT"
DEFAULT_PATH: Final = Path("/etc/refloat/agent.toml")
PACKAGE_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9+._:-]{0,63}$"
_TRIGGER = re.compile(r"[a-z][a-z0-9_-]{1,31}")


class SlurmSettings(Settings):
    """How the agent talks to Slurm."""

    backend: Literal["auto", "scontrol", "pyslurm"] = Field(
        default="auto", description="`auto` takes pyslurm where it is installed, fits Slurm's release, and answers."
    )
    deadline_s: float = Field(default=15.0, gt=0, description="How long one call may take before it counts as failed.")
    poll_s: float = Field(
        default=30.0,
        ge=1,
        description="Between two own reads of the node while no coordinator feeds its state. A read costs slurmctld "
        "one node's answer (0.4 to 1 ms).",
    )


class StepSettings(Settings):
    """A step of a recipe. A command of it may be run again after a crash or a failure, so it must be idempotent."""

    step: StepKind = Field(
        description="`stop` and `start` the services, `unmount` and `mount` the storage, `run` commands, `reboot`, "
        "`check` (run every check until all pass), `resume` (give the node back to Slurm)."
    )
    argv: tuple[Argv, ...] = Field(default=(), description="The commands of a step `run`, as lists of words; no shell.")
    how: Literal["systemd", "kexec", "soft-reboot"] = Field(
        default="systemd",
        description="The way of a step `reboot`. `systemd`: `reboot_command`; `kexec`: `systemctl kexec`, of a kernel "
        "that the step's `pre` has loaded (`kexec -l`); `soft-reboot`: `systemctl soft-reboot`, which keeps the kernel "
        "and needs a systemd that counts them (`systemctl show -p SoftRebootsCount`).",
    )
    deadline_s: float | None = Field(
        default=None,
        gt=0,
        description="How long the step may take, all attempts together, hooks not counted; a command that is still "
        "running then is killed. Default: the phase's, in `[deadlines]`.",
    )
    retries: int | None = Field(
        default=None,
        ge=0,
        description="How often a failed attempt is followed by another, after `retry_s`, doubled with each. "
        "Default: `max_attempts` - 1.",
    )
    on_failure: OnFailure = Field(
        default=OnFailure.HOLD,
        description="After the last attempt or the deadline: `hold` the node for a human; `skip` what is left of the "
        "step, its hooks too, and go on with the next; `continue`: commands (and services) after the failed one get "
        "their turn in every attempt, and then the step counts as done. Only `stop` and `run` can be given up.",
    )
    pre: tuple[Argv, ...] = Field(
        default=(), description="Commands to run before the step, once the node is DOWN and proven empty."
    )
    post: tuple[Argv, ...] = Field(
        default=(), description="Commands to run after it, on the same terms; not for `reboot` and `resume`."
    )
    hook_deadline_s: float = Field(default=60.0, gt=0, description="For each command of `pre` and `post`.")

    def step_of_recipe(self) -> Step:
        """The same, for the machine."""
        return Step(
            kind=self.step,
            argv=self.argv,
            how=Way(self.how),
            deadline_s=self.deadline_s,
            retries=self.retries,
            on_failure=self.on_failure,
            pre=self.pre,
            post=self.post,
            hook_deadline_s=self.hook_deadline_s,
        )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if (why := why_step_refused(self.step_of_recipe())) is not None:
            raise ValueError(why)
        return self


class RecipeSettings(Settings):
    """A recipe: what a cycle does while the node is out of service. It reboots, or runs commands, or both.

    Either `steps` says all, or `reboot` and `run` stand for: stop, unmount, run, reboot, mount, start, check, resume.
    """

    triggers: Mapping[str, str] = Field(
        default_factory=dict,
        description="First word of a reason that asks for it, and the word that replaces it while it runs.",
    )
    reboot: bool = Field(default=False, description="Reboot the node, after the commands if there are any.")
    run: tuple[Argv, ...] = Field(
        default=(), description="Commands to run, as lists of words; must be idempotent, for a crash runs them again."
    )
    steps: tuple[StepSettings, ...] = Field(
        default=(), description="The steps in order, instead of `reboot` and `run`."
    )
    image_retries: int = Field(
        default=0,
        ge=0,
        description="How often a node that came up with another image than the trigger's `image=` is rebooted once "
        "more before the cycle is held.",
    )
    starting: tuple[str, str] = Field(default=("Node service", "Starting"), description="Annotation: title, message.")
    ending: tuple[str, str] = Field(
        default=("Node service", "Host ready for production"), description="Annotation: title, message."
    )
    tags: str = Field(default="slurm", description="Tags of its annotations, with commas.")

    @field_validator("triggers")
    @classmethod
    def _words_are_words(cls, triggers: Mapping[str, str]) -> Mapping[str, str]:
        for word in (*triggers.keys(), *triggers.values()):
            if not _TRIGGER.fullmatch(word):
                raise ValueError(f"{word!r} is no trigger word: lower-case letters, digits, '-' and '_'")
        return triggers

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.steps and (self.reboot or self.run):
            raise ValueError("reboot and run are the short form of steps: give one or the other")
        if (why := why_refused(self.all_steps())) is not None:
            raise ValueError(why)
        return self

    def all_steps(self) -> tuple[Step, ...]:
        """The steps, whichever form they were given in."""
        if self.steps:
            return tuple(step.step_of_recipe() for step in self.steps)
        return short_form(reboot=self.reboot, run=self.run)


class RungSettings(Settings):
    """A rung of the ladder: another way to reboot a node that did not go down by the way before it."""

    way: Literal["force", "force-force", "sysrq"] = Field(
        description="`force`: `systemctl reboot --force`; `force-force`: the same twice, past systemd; `sysrq`: the "
        "kernel syncs, remounts read-only and reboots."
    )
    after_s: float = Field(gt=0, description="How long the way before it may take.")


REBOOT: Final = RecipeSettings(
    triggers={"reboot": "rebooting"},
    reboot=True,
    starting=("Rolling Reboot", "Rebooting for Updates"),
    ending=("Rolling Reboot", "Host ready for production"),
)


class HealthSettings(Settings):
    """What failed checks may do."""

    drain: bool = Field(default=True, description="Drain the node when a check with severity `drain` fails.")
    prefix: str = Field(default="refloat:", description="First word of the reason of such a drain.")
    adopt: tuple[str, ...] = Field(
        default=(), description="Prefixes of drains left by others that count as ours, as in `NHC:`."
    )
    loop_limit: int = Field(
        default=2,
        ge=1,
        description="How many cycles are begun as the `remedy` of a check within `loop_window_s`, before the node is "
        "held for a human (`refloat cycle release`).",
    )
    loop_window_s: float = Field(default=86400.0, gt=0, description="See `loop_limit`.")


class VersionSettings(Settings):
    """What else than image, system, kernel and its command line proves what a node runs (`refloat status --by`)."""

    packages: tuple[Annotated[str, Field(pattern=PACKAGE_NAME)], ...] = Field(
        default=(), max_length=32, description="Packages whose versions rpm or dpkg tell."
    )
    modules: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")], ...] = Field(
        default=(), max_length=32, description="Kernel modules, such as drivers, whose versions the kernel tells."
    )
    interval_s: float = Field(default=3600.0, ge=60, description="Between two looks at them.")


class DeadlineSettings(Settings):
    """How long each phase may take, in seconds, before the cycle is held; 0 means no limit."""

    draining: float = Field(default=14 * 86400.0, ge=0, description="Until the last job has ended.")
    stopping: float = Field(default=300.0, ge=0, description="Until the services have stopped.")
    unmounting: float = Field(default=600.0, ge=0, description="Until all storage is unmounted.")
    running: float = Field(default=3600.0, ge=0, description="Until the recipe's commands have succeeded.")
    rebooting: float = Field(default=900.0, ge=0, description="Until the machine has gone down.")
    mounting: float = Field(default=900.0, ge=0, description="Until all storage is mounted rightly.")
    starting: float = Field(default=300.0, ge=0, description="Until the services have started.")
    checking: float = Field(default=600.0, ge=0, description="Until every check has passed.")
    resuming: float = Field(default=300.0, ge=0, description="Until Slurm shows the node in service.")

    def by_phase(self) -> Mapping[Phase, float]:
        """The same, by phase."""
        return MappingProxyType({Phase(name.upper()): value for name, value in self.model_dump().items()})


class LogSettings(Settings):
    """The log."""

    format: Literal["auto", "console", "json", "journal"] = Field(
        default="auto", description="`auto`: the journal under systemd, JSON on a pipe, else readable text."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level.")


def _hostname() -> str:
    return socket.gethostname().partition(".")[0]


class AgentSettings(Settings):
    """agent.toml."""

    mode: Literal["observe", "act"] = Field(
        default="observe",
        description="`observe` runs checks and reports, but never drains, mounts, reboots or resumes; `act` does.",
    )
    cluster: str = Field(default="cluster", description="The cluster's name in MQTT topics.")
    node: str = Field(
        default_factory=_hostname, description="The node's name in Slurm; default: the host's short name."
    )
    state_dir: Path = Field(default=Path("/var/lib/refloat/agent"), description="Journal and spool; a local disk.")
    socket: Path = Field(default=Path("/run/refloat/agent.sock"), description="Control socket for `refloat`.")
    without_coordinator: Literal["proceed", "wait"] = Field(
        default="proceed", description="What a trigger does while no coordinator can be asked for a permit."
    )
    mount_at_boot: bool = Field(
        default=True, description="Mount storage and start services that a boot outside a cycle did not bring up."
    )
    check_offset_s: float = Field(
        default=0.0,
        ge=0,
        description="Checks are looked at when the wall clock is this long past a multiple of their interval: on all "
        "nodes in the same moment, away from what else happens at the full minute.",
    )
    cpus: str = Field(
        default="",
        description="Processors that the agent and its helpers keep to, as in `0,64-67`: those that no job gets. What "
        "recipes and storage commands start is on all. Empty: on all.",
    )
    gate_deadline_s: float = Field(
        default=300.0,
        ge=0,
        description="How long `refloat-boot-gate.service` keeps slurmd from starting while storage is not mounted or a "
        "check of the profile `boot` has not passed. Then the node is drained with the reason, and slurmd starts.",
    )
    services: tuple[str, ...] = Field(
        default=(), description="Units to stop, in this order, before storage is unmounted, and to start again after."
    )
    reboot_command: Argv = Field(default=("systemctl", "reboot"), description="How to reboot.")
    reboot_ladder: tuple[RungSettings, ...] = Field(
        default=tuple(RungSettings.model_validate({"way": r.way, "after_s": r.after_s}) for r in DEFAULT_LADDER),
        description="What is tried, in this order, on a node that does not go down, each only while it is proven empty "
        "and with an event before it; `[]`: nothing. The whole must fit into the deadline of the step.",
    )
    command_deadline_s: float = Field(default=900.0, gt=0, description="For each command of a recipe or service.")
    max_attempts: int = Field(default=5, ge=1, description="Failed attempts of one step before the cycle is held.")
    retry_s: float = Field(default=5.0, gt=0, description="Before the second attempt; doubles with each.")
    slurm: SlurmSettings = Field(default_factory=SlurmSettings, description="Slurm.")
    mqtt: MqttSettings | None = Field(default=None, description="The broker; without it the agent works alone.")
    log: LogSettings = Field(default_factory=LogSettings, description="The log.")
    health: HealthSettings = Field(default_factory=HealthSettings, description="Health drains.")
    versions: VersionSettings = Field(default_factory=VersionSettings, description="Proof of what the node runs.")
    deadlines: DeadlineSettings = Field(default_factory=DeadlineSettings, description="Deadlines of the phases.")
    storage: tuple[Storage, ...] = Field(
        default=(), description="Storage, in the order in which it is mounted; unmounted in reverse."
    )
    recipes: Mapping[str, RecipeSettings] = Field(
        default_factory=dict, description="Recipes by name; `reboot` is there without being named."
    )
    check: tuple[dict[str, Any], ...] = Field(default=(), description="Checks; see the reference of checks.")
    nhc_conf: Path | None = Field(
        default=None,
        description="An nhc.conf, as in `/etc/nhc/nhc.conf`, whose lines become checks of this node; a line that needs "
        "a shell is run by bash, with the site's scripts from the folder `scripts` beside it. Drains that NHC left "
        "(`NHC:`) are adopted then.",
    )
    nhc_compat: Literal["safe", "strict"] = Field(
        default="safe",
        description="`safe` says UNKNOWN where NHC hides a failure; `strict` gives NHC's own answer.",
    )
    nhc_interval_s: float = Field(default=60.0, gt=0, description="Between two passes over the nhc.conf.")

    @field_validator("cluster", "node")
    @classmethod
    def _can_stand_in_a_topic(cls, name: str) -> str:
        if not is_level(name):
            raise ValueError(f"{name!r}: use letters, digits, '.', '_' and '-'")
        return name

    @field_validator("cpus")
    @classmethod
    def _cpus_are_a_list(cls, text: str) -> str:
        if text:
            affinity.parse(text)
        return text

    @field_validator("check")
    @classmethod
    def _checks_are_known(cls, tables: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        registry.build(list(tables))
        return tables

    @model_validator(mode="after")
    def _words_are_unique(self) -> Self:
        if RETURN.name in self.recipes:
            raise ValueError(f"the recipe {RETURN.name!r} is the way back of every cycle, and built in")
        words = [word for recipe in self.all_recipes().values() for word in recipe.triggers]
        twice = {word for word in words if words.count(word) > 1}
        if twice:
            raise ValueError(f"trigger {min(twice)!r} names two recipes")
        self._words_say_one_thing()
        for check in self.checks():
            if check.remedy and check.remedy not in self.all_recipes():
                known = ", ".join(sorted(self.all_recipes()))
                raise ValueError(f"check {check.name!r}: no recipe {check.remedy!r} (known here: {known})")
            if check.remedy and check.severity is not Severity.DRAIN:
                raise ValueError(
                    f"check {check.name!r}: a remedy needs severity = 'drain': only a drained node gets it"
                )
        names = [storage.name for storage in self.storage]
        if len(set(names)) != len(names):
            raise ValueError("two storages share a name")
        return self

    def _words_say_one_thing(self) -> None:
        """A word that both asks for a cycle and says that one is under way would reboot a node again and again."""
        said = {word.rstrip(":") for word in (HOLD_WORD, RELEASE_WORD)}
        for word in (text for each in self.dialect().words for text in (each.trigger, each.progress)):
            if not _TRIGGER.fullmatch(word):
                raise ValueError(f"recipe {word!r} needs triggers, for its name is no trigger word")
            if word in said:
                raise ValueError(f"{word!r} is used twice among the triggers and the words that replace them")
            said.add(word)
        for prefix in (self.health.prefix, *self.health.adopt):
            first = prefix.split()[:1]
            if not first or first[0].rstrip(":").lower() in said:
                raise ValueError(
                    f"health: {prefix!r} cannot mark a drain for health: it is empty or means another thing"
                )

    def all_recipes(self) -> Mapping[str, RecipeSettings]:
        """The recipes, `reboot` included."""
        return {"reboot": REBOOT, **self.recipes}

    def checks(self) -> list[registry.CheckSpec]:
        """The checks, validated."""
        return registry.build(list(self.check))

    def remedies(self) -> Mapping[str, str]:
        """By check, the recipe that is to cure what it finds."""
        return MappingProxyType({check.name: check.remedy for check in self.checks() if check.remedy})

    def dialect(self) -> Dialect:
        """The words that a reason may use here."""
        words = tuple(
            Word(trigger, progress, name)
            for name, recipe in self.all_recipes().items()
            for trigger, progress in (recipe.triggers or {name: f"{name}-running"}).items()
        )
        adopted = (*self.health.adopt, *((LEADER,) if self.nhc_conf is not None else ()))
        return Dialect(words, self.health.prefix, tuple(dict.fromkeys(adopted)))

    def policy(self) -> Policy:
        """What the machine decides by."""
        recipes = {
            name: Recipe(name, recipe.all_steps(), recipe.starting, recipe.ending, recipe.tags, recipe.image_retries)
            for name, recipe in self.all_recipes().items()
        }
        return Policy(
            node=self.node,
            recipes=MappingProxyType(recipes),
            dialect=self.dialect(),
            deadlines_s=self.deadlines.by_phase(),
            max_attempts=self.max_attempts,
            retry_s=self.retry_s,
            command_deadline_s=self.command_deadline_s,
            ladder=tuple(Rung(Way(rung.way), rung.after_s) for rung in self.reboot_ladder),
            has_coordinator=self.mqtt is not None,
            proceed_without_coordinator=self.without_coordinator == "proceed",
            poll_s=self.slurm.poll_s,
            acts=self.mode == "act",
            drains=self.health.drain,
            remedies=self.remedies(),
            loop_limit=self.health.loop_limit,
            loop_window_s=self.health.loop_window_s,
        )
