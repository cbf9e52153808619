# SPDX-License-Identifier: Apache-2.0
"""The reason protocol: what the reason text of a Slurm node says to refloat, and how refloat writes it.

slurmctld appends to reasons (``reboot`` becomes ``reboot : Not responding``) and people add free text, so the first
word decides and what follows is tolerated. A reason means something only together with its node's flags: an idle node
may still show an old one.

    trigger    reboot | reboot: kernel update | reboot image=compute-3f2a1c wave=w12 was: <prior reason>
    progress   rebooting refloat=<cycle> boot=<old boot> step=<n> try=<n> image=<wanted> wave=<id> was: <prior reason>
    hold       refloat-hold: <one sentence> refloat=<cycle> was: <prior reason>
    release    refloat-release: <who, and why> refloat=<cycle> was: <prior reason>
    health     refloat: <check>: <message> (+2 more) (also NHC: ... where a site adopts NHC's drains)
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

MAX_SENTENCE: Final = 240
"""Longest free text that refloat writes into a reason, in characters; sinfo's users read it in a terminal."""

HOLD_WORD: Final = "refloat-hold:"
RELEASE_WORD: Final = "refloat-release:"
NO_CYCLE: Final = "-"
_PRIOR: Final = " was: "
_MAX_DIGITS: Final = 3
# From the start of a word only, so that a long text is read once.
_OPTION = re.compile(r"(?<![a-z_])_*(?P<key>[a-z][a-z_]*)=(?P<value>[^\s\"']+)")
_SLURM_SUFFIX = re.compile(r" : (?:Not responding|reboot (?:requested|issued|complete|timed out))(?= : |$)")
_CYCLE_AND_PRIOR = re.compile(r" refloat=(?P<cycle>[^\s\"']+) was: (?P<prior>.*)$")
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
# `scontrol reboot` marks its own operations: by default with this text, and always by appending what happened.
_SLURM_REBOOT = re.compile(r"^Reboot ASAP\b| : reboot (?:requested|issued|complete|timed out)")


@dataclass(frozen=True, slots=True)
class Word:
    """A trigger word, the word that replaces it once the node is out of service, and the recipe that both name."""

    trigger: str
    progress: str
    recipe: str


DEFAULT_WORDS: Final = (
    Word("reboot", "rebooting", "reboot"),
    Word("gpfs-restart", "gpfs-restarting", "reconfigure"),
    Word("reconfigure", "reconfiguring", "reconfigure"),
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """Which words a site uses: triggers, the prefix of health drains, and foreign prefixes that it adopts."""

    words: tuple[Word, ...] = DEFAULT_WORDS
    health_prefix: str = "refloat:"
    adopted_prefixes: tuple[str, ...] = ()

    def word(self, trigger: str) -> Word | None:
        """The word with this trigger, in any case."""
        return next((w for w in self.words if w.trigger == trigger.lower()), None)

    def word_for_recipe(self, recipe: str) -> Word | None:
        """The first word that names this recipe."""
        return next((w for w in self.words if w.recipe == recipe), None)


@dataclass(frozen=True, slots=True)
class NoReason:
    """There is no reason."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """A reason that asks for a cycle; ``prior`` is that of somebody else's drain, given back at its end.

    ``cause`` is the check whose failure it is the remedy of, ``loop`` how many such cycles this makes, itself included.
    """

    word: Word
    image: str = ""
    wave: str = ""
    prior: str = ""
    cause: str = ""
    loop: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """A cycle has taken the node out of service; fields that a bare word lacks are empty.

    ``prior`` is the reason of somebody else's drain that stood before the trigger, and is given back at the end.
    ``step`` counts the recipe's steps from 1: how far it is; 0 where nothing is said, as by earlier releases.
    ``reboot_try`` counts the reboots for the right image from 1; ``cause`` and ``loop`` are the trigger's.
    """

    word: Word
    cycle: str = ""
    boot: str = ""
    image: str = ""
    wave: str = ""
    prior: str = ""
    step: int = 0
    reboot_try: int = 1
    cause: str = ""
    loop: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    """A cycle stopped and waits for a human."""

    sentence: str
    cycle: str = ""
    prior: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """An administrator calls a cycle off, or gives a held node back: bring all up, check it, and end."""

    sentence: str
    cycle: str = ""
    prior: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """A failed check drained the node; ``adopted`` when another program with a prefix we adopt wrote it."""

    message: str
    adopted: bool = False


@dataclass(frozen=True, slots=True)
class Foreign:
    """Somebody else's reason: never touched, overwritten or cleared."""

    text: str


_DEFAULT: Final = Dialect()

Reason: TypeAlias = NoReason | Trigger | Progress | Hold | Release | Health | Foreign


def parse(text: str, dialect: Dialect | None = None) -> Reason:
    """Say what a reason text means; whatever is not surely ours is Foreign."""
    return _parsed(text, dialect or _DEFAULT)


@lru_cache(maxsize=4096)
def _parsed(text: str, dialect: Dialect) -> Reason:
    """The same text is asked about again and again: of hundreds of nodes of one wave, and at every look at each."""
    stripped = text.strip()
    if not stripped:
        return NoReason()
    if _SLURM_REBOOT.search(stripped):
        return Foreign(stripped)
    if stripped.startswith(HOLD_WORD):
        return Hold(*_of_cycle(stripped.removeprefix(HOLD_WORD), dialect))
    if stripped.startswith(RELEASE_WORD):
        return Release(*_of_cycle(stripped.removeprefix(RELEASE_WORD), dialect))
    if _has_prefix(stripped, dialect.health_prefix):
        return Health(_without_suffix(stripped.removeprefix(dialect.health_prefix)))
    for prefix in dialect.adopted_prefixes:
        if _has_prefix(stripped, prefix):
            return Health(_without_suffix(stripped.removeprefix(prefix)), adopted=True)
    return _by_first_word(stripped, dialect)


def _by_first_word(text: str, dialect: Dialect) -> Reason:
    first = re.split(r"[:\s]", text, maxsplit=1)[0].lower()
    head, _, rest = text.partition(_PRIOR)
    options, prior = _options(head), _prior(rest, dialect)
    for word in dialect.words:
        if first == word.trigger:
            return Trigger(word, options.get("image", ""), options.get("wave", ""), prior, *_remedy(options))
        if first == word.progress:
            return Progress(
                word,
                options.get("refloat", ""),
                options.get("boot", ""),
                options.get("image", ""),
                options.get("wave", ""),
                prior,
                _number(options.get("step", "")),
                max(1, _number(options.get("try", ""))),
                *_remedy(options),
            )
    return Foreign(text)


def _prior(text: str, dialect: Dialect) -> str:
    """The reason to give back. None of our own words is one: given back, it would ask for the next cycle, for ever."""
    prior = _without_suffix(text)
    # What stands behind a `was:` of its own does not change whose it is, however many there are.
    meant = Foreign(prior) if _SLURM_REBOOT.search(prior) else parse(prior.partition(_PRIOR)[0], dialect)
    return prior if isinstance(meant, Foreign) else ""


def _of_cycle(text: str, dialect: Dialect) -> tuple[str, str, str]:
    """The sentence, the cycle and the prior reason of a hold or a release."""
    sentence = _without_suffix(text)
    if (found := _CYCLE_AND_PRIOR.search(sentence)) is not None:
        return sentence[: found.start()].strip(), _named(found["cycle"]), _prior(found["prior"], dialect)
    # The cycle stands at the end; the sentence before it may quote anything.
    words, _, last = sentence.rpartition(" ")
    cycle = _options(last).get("refloat", "") if last.startswith("refloat=") else ""
    return (words.strip() if cycle else sentence), _named(cycle), ""


def _named(cycle: str) -> str:
    return "" if cycle == NO_CYCLE else cycle


def _has_prefix(text: str, prefix: str) -> bool:
    # Whole words only: `NHC:x` is not a drain by NHC.
    return text == prefix or text.startswith(prefix + " ")


def _options(text: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for match in _OPTION.finditer(text):
        found.setdefault(match["key"], match["value"])
    return found


def _remedy(options: Mapping[str, str]) -> tuple[str, int]:
    return options.get("cause", ""), _number(options.get("loop", ""))


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= _MAX_DIGITS else 0


def _without_suffix(text: str) -> str:
    return _SLURM_SUFFIX.sub("", text).strip()


def one_line(text: str, limit: int = MAX_SENTENCE) -> str:
    """Text as a reason can hold it: one line, no control characters, no double quotes, at most ``limit`` long.

    slurmctld strips a double quote at an end and scontrol prints a newline as a gap that looks like a new field.
    """
    printable = "".join(c if c.isprintable() else " " for c in text.replace('"', "'"))
    line = " ".join(printable.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def write_remedy(word: Word, *, cause: str, loop: int) -> str:
    """The reason that asks for the cycle which is to cure what a check found."""
    return _joined(word.trigger, cause=cause, loop=str(loop))


def write_trigger(word: Word, *, image: str = "", wave: str = "", because: str = "", prior: str = "") -> str:
    """The reason that asks for a cycle; ``because`` is for people, and is read by nobody else."""
    line = _joined(word.trigger, image=image, wave=wave)
    return _with_prior(f"{line} ({_plain(because)})" if because else line, prior)


def _plain(text: str) -> str:
    """Free text that says nothing to a reader of options."""
    return one_line(text.replace("=", " ").replace(_PRIOR, " "))


def _with_prior(line: str, prior: str) -> str:
    return f"{line}{_PRIOR}{one_line(_without_suffix(prior))}" if prior else line


def write_progress(
    word: Word,
    *,
    cycle: str,
    boot_id: str,
    step: int = 0,
    reboot_try: int = 1,
    image: str = "",
    wave: str = "",
    prior: str = "",
    cause: str = "",
    loop: int = 0,
) -> str:
    """The reason of a node that a cycle has taken out of service.

    A stateless node rebuilds its cycle from this line alone: its disk is gone after the reboot.
    """
    options = {"refloat": cycle, "boot": short_boot(boot_id), "step": str(step) if step else ""}
    options |= {"try": str(reboot_try) if reboot_try > 1 else "", "image": image, "wave": wave}
    options |= {"cause": cause, "loop": str(loop) if loop else ""}
    line = _joined(word.progress, **options)
    return _with_prior(line, prior)


def write_hold(sentence: str, cycle: str, prior: str = "") -> str:
    """The reason of a node whose cycle waits for a human."""
    return _with_prior(f"{HOLD_WORD} {one_line(sentence)} refloat={cycle}", prior)


def write_release(sentence: str, cycle: str = "", prior: str = "") -> str:
    """The reason by which an administrator calls a cycle off, or gives a held node back."""
    line = f"{RELEASE_WORD} {_plain(sentence)}"
    # The marks of a cycle stand even where it is not known, for `was:` counts after them only.
    return _with_prior(f"{line} refloat={cycle or NO_CYCLE}", prior)


def write_health(failures: Sequence[tuple[str, str]], prefix: str = "refloat:") -> str:
    """The reason of a node that failed checks, worst first: the first failure, and how many more there are."""
    check, message = failures[0]
    more = f" (+{len(failures) - 1} more)" if len(failures) > 1 else ""
    return f"{prefix} {one_line(f'{check}: {message}')}{more}"


def short_boot(boot_id: str) -> str:
    """The first 8 hex digits of a boot id, and ``.n`` after n soft reboots: tells two boots of a node apart."""
    kernel, _, soft = boot_id.partition(".")
    short = kernel.replace("-", "")[:8].lower()
    return f"{short}.{soft}" if soft else short


def is_same(one: str, other: str) -> bool:
    """Whether two reasons are the same but for what slurmctld appended."""
    return _without_suffix(one) == _without_suffix(other)


def is_health(failures: Sequence[tuple[str, str]], reason: str, prefix: str = "refloat:") -> bool:
    """Whether a reason tells of these failures already; the figures within the message may differ."""
    head = f"{prefix} {one_line(failures[0][0])}:"
    wanted = write_health(failures, prefix)
    if not (wanted.startswith(head) and reason.startswith(head)):
        return is_same(wanted, reason)
    return _without_figures(wanted.removeprefix(head)) == _without_figures(reason.removeprefix(head))


def _without_figures(text: str) -> str:
    message, more, count = _without_suffix(text).rpartition(" (+")
    return _FIGURE.sub("0", message) + more + count if more else _FIGURE.sub("0", count)


def _joined(word: str, **options: str) -> str:
    return " ".join([word, *(f"{key}={value}" for key, value in options.items() if value)])


_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")


def is_option_value(text: str) -> bool:
    """Whether ``text`` may stand as the value of ``image=`` or ``wave=``: one word, nothing a shell would see."""
    return _VALUE.fullmatch(text) is not None
