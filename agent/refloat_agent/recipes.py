# SPDX-License-Identifier: Apache-2.0
"""Recipes: the steps of a cycle, what each may be told, and which orders of them could keep the invariants. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from refloat_contract.words import Phase

Argv = tuple[str, ...]


class StepKind(StrEnum):
    """What a step of a recipe does."""

    STOP = "stop"
    UNMOUNT = "unmount"
    RUN = "run"
    REBOOT = "reboot"
    MOUNT = "mount"
    START = "start"
    CHECK = "check"
    RESUME = "resume"


class OnFailure(StrEnum):
    """What a cycle does about a step that failed at its last attempt, or did not end within its deadline."""

    HOLD = "hold"
    """It waits for a human."""
    SKIP = "skip"
    """What is left of the step (commands after the failed one, hooks) is left out; the next step follows."""
    CONTINUE = "continue"
    """What is left of the step is done all the same, as if nothing had failed; then the next step follows."""


class Way(StrEnum):
    """How a machine is rebooted; the last three are the rungs of the ladder for one that does not go down."""

    SYSTEMD = "systemd"
    KEXEC = "kexec"
    SOFT = "soft-reboot"
    FORCE = "force"
    FORCE_FORCE = "force-force"
    SYSRQ = "sysrq"


class Part(StrEnum):
    """Where in a step a cycle is."""

    PRE = "pre"
    MAIN = "main"
    POST = "post"


PHASES: Final[Mapping[StepKind, Phase]] = MappingProxyType(
    {
        StepKind.STOP: Phase.STOPPING,
        StepKind.UNMOUNT: Phase.UNMOUNTING,
        StepKind.RUN: Phase.RUNNING,
        StepKind.REBOOT: Phase.REBOOTING,
        StepKind.MOUNT: Phase.MOUNTING,
        StepKind.START: Phase.STARTING,
        StepKind.CHECK: Phase.CHECKING,
        StepKind.RESUME: Phase.RESUMING,
    }
)

UNSAFE_KINDS: Final = frozenset({StepKind.STOP, StepKind.UNMOUNT, StepKind.RUN, StepKind.REBOOT})
"""What could harm a job, if there were one; so could any hook."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One more way to reboot, and how long the way before it may take."""

    way: Way
    after_s: float


DEFAULT_LADDER: Final = (Rung(Way.FORCE, 300.0), Rung(Way.FORCE_FORCE, 120.0), Rung(Way.SYSRQ, 60.0))


@dataclass(frozen=True, slots=True)
class Step:
    """One step. What is None is as the policy says: the phase's deadline, the usual number of attempts."""

    kind: StepKind
    argv: tuple[Argv, ...] = ()
    how: Way = Way.SYSTEMD
    deadline_s: float | None = None
    retries: int | None = None
    on_failure: OnFailure = OnFailure.HOLD
    pre: tuple[Argv, ...] = ()
    post: tuple[Argv, ...] = ()
    hook_deadline_s: float = 60.0

    @property
    def phase(self) -> Phase:
        """The phase of a cycle that is at this step."""
        return PHASES[self.kind]

    @property
    def commits(self) -> bool:
        """Whether the node must be DOWN, and the reason say how far the cycle is, before this is begun."""
        return self.kind in {StepKind.RUN, StepKind.REBOOT} or bool(self.pre or self.post)

    @property
    def may_harm(self) -> bool:
        """Whether it is only done on a node that is proven empty."""
        return self.kind in UNSAFE_KINDS or bool(self.pre or self.post)

    @property
    def first_part(self) -> Part:
        """Where it begins."""
        return Part.PRE if self.pre else Part.MAIN


@dataclass(frozen=True, slots=True)
class Recipe:
    """The steps of a cycle, and how the record calls it. `why_refused` says nothing against the steps."""

    name: str
    steps: tuple[Step, ...]
    starting: tuple[str, str] = ("Rolling Reboot", "Rebooting for Updates")
    ending: tuple[str, str] = ("Rolling Reboot", "Host ready for production")
    tags: str = "slurm"
    image_retries: int = 0
    """How often the node is rebooted once more when it came up with another image than was asked for."""
    reboot_at: int | None = field(init=False, repr=False, compare=False)
    """Which step reboots; None when none does."""

    def __post_init__(self) -> None:
        """Find the step that reboots, which every look at a cycle asks for."""
        found = (number for number, step in enumerate(self.steps) if step.kind is StepKind.REBOOT)
        object.__setattr__(self, "reboot_at", next(found, None))

    @property
    def reboot(self) -> bool:
        """Whether it reboots the node."""
        return self.reboot_at is not None

    @property
    def commits_at(self) -> int:
        """The first step that sets the node DOWN and writes the progress into the reason."""
        return next(number for number, step in enumerate(self.steps) if step.commits)

    @property
    def returns_at(self) -> int:
        """The first step of the way back: from here on nothing is done to the node that an empty one must bear."""
        unsafe = (number for number, step in enumerate(self.steps[:-1]) if step.kind in UNSAFE_KINDS)
        return 1 + max(unsafe, default=-1)

    def step_word(self, number: int, part: Part) -> int:
        """What ``step=`` in the reason says at a step, counted from 1; 0 (not written) where the rest says it all.

        That is so once the reboot itself may have been asked for, whose ``boot=`` tells whether it has happened, and in
        a recipe that commits once.
        """
        step = self.steps[number]
        if step.kind is StepKind.REBOOT and part is Part.MAIN:
            return 0
        commits = sum(each.commits for each in self.steps)
        return 0 if commits == 1 and step.kind is not StepKind.REBOOT else number + 1

    def find(self, phase: Phase) -> int | None:
        """The first step of a phase."""
        return next((number for number, step in enumerate(self.steps) if step.phase is phase), None)


RETURN: Final = Recipe(
    "release",
    tuple(Step(kind) for kind in (StepKind.MOUNT, StepKind.START, StepKind.CHECK, StepKind.RESUME)),
    ending=("Cycle released", "Host ready for production"),
)
"""The way back of a node whose cycle was called off or held: all is brought up and proven, nothing is rebooted."""


def short_form(*, reboot: bool = False, run: Iterable[Argv] = ()) -> tuple[Step, ...]:
    """The steps of a recipe that is given as ``reboot`` and ``run`` only."""
    commands = tuple(run)
    middle: tuple[Step, ...] = (Step(StepKind.RUN, argv=commands),) if commands else ()
    middle += (Step(StepKind.REBOOT),) if reboot else ()
    down = (Step(StepKind.STOP), Step(StepKind.UNMOUNT))
    up = (StepKind.MOUNT, StepKind.START, StepKind.CHECK, StepKind.RESUME)
    return (*down, *middle, *(Step(kind) for kind in up))


_NEVER_GIVEN_UP: Final[Mapping[StepKind, str]] = MappingProxyType(
    {
        StepKind.UNMOUNT: "what to do about storage that stays busy is for its [[storage]] table to say",
        StepKind.REBOOT: "a node that did not reboot could never prove that it did",
        StepKind.MOUNT: "a node is never resumed without its storage",
        StepKind.START: "a node is never resumed without its services",
        StepKind.CHECK: "a node is never resumed unproven",
        StepKind.RESUME: "a node that could not be resumed is out of service",
    }
)


def why_step_refused(step: Step) -> str | None:
    """Why a step by itself cannot be accepted; None when it can."""
    if step.on_failure is not OnFailure.HOLD and (why := _NEVER_GIVEN_UP.get(step.kind)) is not None:
        return f"step {step.kind!s}: on_failure = {step.on_failure.value!r} cannot be: {why}"
    if bool(step.argv) != (step.kind is StepKind.RUN):
        return "a step run needs argv" if not step.argv else f"step {step.kind!s}: argv belongs to a step run"
    if step.how is not Way.SYSTEMD and step.kind is not StepKind.REBOOT:
        return f"step {step.kind!s}: how belongs to a step reboot"
    if step.post and step.kind is StepKind.REBOOT:
        return "step reboot: nothing of this boot lives after it; make post the pre of the next step"
    if step.post and step.kind is StepKind.RESUME:
        return "step resume: jobs may run once it is done, so it has no post"
    if not all(argv and argv[0] for argv in (*step.argv, *step.pre, *step.post)):
        return f"step {step.kind!s}: a command has no words"
    return None


def why_refused(steps: Sequence[Step]) -> str | None:
    """Why a recipe of these steps could break an invariant, or never end well; None when it is accepted."""
    for step in steps:
        if (why := why_step_refused(step)) is not None:
            return why
    kinds = [step.kind for step in steps]
    if not {StepKind.RUN, StepKind.REBOOT}.intersection(kinds):
        return "a recipe must reboot or run something"
    if kinds[-1] is not StepKind.RESUME or kinds.count(StepKind.RESUME) > 1:
        return "the last step, and no other, must be resume"
    if kinds.count(StepKind.REBOOT) > 1:
        return "a cycle reboots its node once: there is more than one step reboot"
    if kinds.count(StepKind.CHECK) != 1:
        return "there must be one step check: a node is never resumed unproven"
    if not {StepKind.START, StepKind.RESUME}.issuperset(kinds[kinds.index(StepKind.CHECK) + 1 :]):
        return "after the step check only start and resume may come: what comes later would go unchecked"
    return _why_out_of_order(kinds)


_DOWN: Final = frozenset({StepKind.STOP, StepKind.UNMOUNT, StepKind.REBOOT})
_UP: Final = frozenset({StepKind.MOUNT, StepKind.START, StepKind.CHECK})


def _why_out_of_order(kinds: Sequence[StepKind]) -> str | None:
    ups = [number for number, kind in enumerate(kinds) if kind in _UP]
    late = next((kind for number, kind in enumerate(kinds) if kind in _DOWN and number > ups[0]), None)
    if late is not None:
        return f"the step {late!s} takes the node down again after the step {kinds[ups[0]]!s} has begun to bring it up"
    if {StepKind.UNMOUNT, StepKind.REBOOT}.intersection(kinds) and StepKind.MOUNT not in kinds:
        return "a recipe that unmounts or reboots needs a step mount"
    if StepKind.STOP in kinds and StepKind.START not in kinds:
        return "a recipe that stops services needs a step start"
    return None
