# SPDX-License-Identifier: Apache-2.0
"""What `refloat cycle` may write over what Slurm shows of a node, and why not. Pure.

Only words of our own are ever written over, and somebody else's drain only when that is asked for; it is given back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from refloat_contract import reasons
from refloat_contract.reasons import Dialect, Word
from refloat_slurm import states
from refloat_slurm.gateway import Change, NodeView


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be written of one node."""

    node: str
    change: Change | None
    reason: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing is written of one node; ``is_good`` where all is as it was asked for already."""

    node: str
    why: str
    is_good: bool = False


Verdict: TypeAlias = Order | Refusal
Verb: TypeAlias = Callable[[NodeView], Verdict]


@dataclass(frozen=True, slots=True)
class Wish:
    """The cycle that is asked for, by whom, and why."""

    word: Word
    by: str
    image: str = ""
    wave: str = ""
    because: str = ""

    def trigger(self, prior: str = "") -> str:
        """The reason that asks for it."""
        said = f"{self.by}: {self.because}" if self.because else self.by
        return reasons.write_trigger(self.word, image=self.image, wave=self.wave, because=said, prior=prior)


_NO_REASON = "drained without a reason"


def start(view: NodeView, dialect: Dialect, wish: Wish, *, over_drain: bool = False) -> Verdict:
    """Ask for a cycle."""
    if states.is_foreign_operation(view):
        return Refusal(view.name, f"Slurm itself is rebooting or powering it ({states.text(view)})")
    if not {"DRAIN", "DOWN", "FAIL"} & view.flags:
        return Order(view.name, Change.DRAIN, wish.trigger())
    match reasons.parse(view.reason, dialect):
        case reasons.Trigger() | reasons.Progress() | reasons.Release() if "DRAIN" in view.flags:
            return Refusal(view.name, f"it is in a cycle already: {view.reason}")
        case reasons.Hold(sentence) if "DRAIN" in view.flags:
            return Refusal(view.name, f"it is held ({sentence}): refloat cycle retry, or release")
        case reasons.Health():
            return Order(view.name, Change.DRAIN, wish.trigger())
        case _ if over_drain:
            return Order(view.name, Change.DRAIN, wish.trigger(view.reason or _NO_REASON))
        case _:
            by = view.reason_user or "somebody"
            return Refusal(view.name, f"{states.text(view)} by {by}: {view.reason or 'no reason'} (--over-drain?)")


def cancel(view: NodeView, dialect: Dialect, by: str, because: str = "") -> Verdict:
    """Call the running cycle off."""
    match _reason(view, dialect):
        case reasons.Trigger(prior=prior):
            return _release(view, f"cancelled by {by}", because, "", prior)
        case reasons.Progress(cycle=cycle, prior=prior):
            return _release(view, f"cancelled by {by}", because, cycle, prior)
        case reasons.Release():
            return Refusal(view.name, f"called off already: {view.reason}", is_good=True)
        case reasons.Hold(sentence):
            return Refusal(view.name, f"it is held ({sentence}): refloat cycle release, or retry")
        case _:
            return Refusal(view.name, f"it is in no cycle ({_shown(view)})")


def release(view: NodeView, dialect: Dialect, by: str, because: str = "") -> Verdict:
    """Give a held node back."""
    match _reason(view, dialect):
        case reasons.Hold(_, cycle, prior):
            return _release(view, f"released by {by}", because, cycle, prior)
        case reasons.Release():
            return Refusal(view.name, f"released already: {view.reason}", is_good=True)
        case reasons.Trigger() | reasons.Progress():
            return Refusal(view.name, f"it is not held, but in a cycle: {view.reason} (refloat cycle cancel)")
        case _:
            return Refusal(view.name, f"it is not held ({_shown(view)})")


def retry(view: NodeView, dialect: Dialect, wish_of: Callable[[str], Wish | None]) -> Verdict:
    """Ask for the cycle of a held node anew; ``wish_of`` knows by its id what it was."""
    match _reason(view, dialect):
        case reasons.Hold(_, cycle, prior):
            wish = wish_of(cycle)
            if wish is None:
                return Refusal(view.name, "what its cycle was is not known here: say --recipe (and --image)")
            return Order(view.name, Change.DRAIN, wish.trigger(prior))
        case _:
            return Refusal(view.name, f"it is not held ({_shown(view)})")


def _reason(view: NodeView, dialect: Dialect) -> reasons.Reason:
    return reasons.parse(view.reason, dialect) if states.is_drain_set(view) else reasons.NoReason()


def _release(view: NodeView, what: str, because: str, cycle: str, prior: str) -> Order:
    sentence = f"{what}: {because}" if because else what
    # The reason alone: a node that somebody resumed this very moment is not drained again.
    return Order(view.name, None, reasons.write_release(sentence, cycle, prior))


def _shown(view: NodeView) -> str:
    is_out = not {"DRAIN", "DOWN", "FAIL"}.isdisjoint(view.flags)
    return f"{states.text(view)}: {view.reason}" if is_out and view.reason else states.text(view)
