# SPDX-License-Identifier: Apache-2.0
"""What a pass is to do on a host: the lines that apply to it, read once, and what of them needs bash."""

from __future__ import annotations

from refloat_checks.nhc import conf, labels, words
from refloat_checks.nhc.language import BadPattern
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.words import Command
from refloat_contract.records import record, replace

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from typing import Final

BUILTINS: Final[Mapping[str, int]] = {"true": 0, ":": 0, "false": 1}
# NHC's own scripts: their checks are native here, and so are the names that they give to others.
_SHIPPED_NAMES: Final = """
common csc_nvidia_smi lbnl_cmd lbnl_dmi lbnl_file lbnl_fs lbnl_hw lbnl_job lbnl_moab lbnl_net lbnl_nv lbnl_ps
"""
SHIPPED: Final = frozenset(f"{name}.nhc" for name in _SHIPPED_NAMES.split())
_FUNCTION: Final = r"(?m)^[ \t]*(?:function[ \t]+([\w.-]+)(?:[ \t]*\(\))?|([\w.-]+)[ \t]*\(\))[ \t]*(?:\{|\(|$)"
_CHECK_BEGINS: Final = ("check_", "function check_")
_SETTING: Final = r"(?m)^(?:export[ \t]+)?[A-Za-z_]\w*="
_LONE: Final = frozenset({"/", "!/"})


@record
class Step:
    """One line that applies: its number, the check's text, and it as plain words where it is that plain."""

    number: int
    text: str
    label: str
    command: Command | None = None
    problem: str = ""

    @property
    def is_setting(self) -> bool:
        """Whether it only sets variables, which finds nothing."""
        return self.command is not None and not self.command.words and not self.problem


@record
class Plan:
    """The steps of a pass, the site's scripts, and the names of functions that either defines."""

    steps: tuple[Step, ...]
    scripts: tuple[str, ...] = ()
    functions: frozenset[str] = frozenset()
    script_settings: bool = False
    hardware: bool = False
    aborted: str = ""

    @property
    def checks(self) -> tuple[Step, ...]:
        """The steps that find something."""
        return tuple(step for step in self.steps if not step.is_setting)


def make(
    text: str,
    host: str,
    scripts: Mapping[str, str],
    is_native: Callable[[str], bool],
    *,
    strict: bool = False,
) -> Plan:
    """Plan a pass over an nhc.conf. `scripts` are the site's by path, with their text.

    Unless `strict`, a last line without a line's end counts, and a carriage return at a line's end does not.
    """
    site = {path: code for path, code in scripts.items() if path.rpartition("/")[2] not in SHIPPED}
    added = {path: _added(code, is_native) for path, code in scripts.items() if path not in site}
    text = text if strict else unbroken(text)
    chosen, aborted = _chosen(text, host, strict=strict)
    steps = [_step(line, problem, is_native) for line, problem in chosen]
    code = (*site.values(), *(step.text for step in steps))
    functions = frozenset((*_defined(code), *(name for names in added.values() for name in names)))
    names = labels.unique(step.label for step in steps)
    return Plan(
        steps=tuple(Step(s.number, s.text, name, s.command, s.problem) for s, name in zip(steps, names, strict=True)),
        scripts=tuple(path for path in scripts if path in site or added[path]),
        functions=functions,
        script_settings=_has_settings(site.values()),
        hardware="HW_" in text or any("HW_" in code for code in site.values()),
        aborted=aborted,
    )


def _defined(code: Iterable[str]) -> list[str]:
    """Name the functions that texts for bash define."""
    may = [text for text in code if "()" in text or "function" in text]
    if not may:
        return []
    import re  # noqa: PLC0415 - few sites define any

    return [found[1] or found[2] for text in may for found in re.finditer(_FUNCTION, text)]


def _has_settings(code: Collection[str]) -> bool:
    if not code:
        return False
    import re  # noqa: PLC0415 - few sites have scripts

    return any(re.search(_SETTING, text) for text in code)


def _added(code: str, is_native: Callable[[str], bool]) -> list[str]:
    """The checks that a site has put into a script of NHC's."""
    # Line by line, for all of NHC's scripts are thousands: a search for each line's start takes much longer.
    begun = (line for line in code.split("\n") if line.startswith(_CHECK_BEGINS))
    names = (line.removeprefix("function ").partition("(")[0].strip() for line in begun if "()" in line)
    return [name for name in names if not is_native(name)]


def single(check: str, scripts: Mapping[str, str], is_native: Callable[[str], bool]) -> Plan:
    """Plan a pass over one check, whose text is not that of a line: its backslashes stay."""
    empty = make("", "", scripts, is_native)
    step = _step(conf.Line(1, "*", check), "", is_native)
    return replace(empty, steps=(step,), hardware=empty.hardware or "HW_" in check)


def unbroken(text: str) -> str:
    """Mend what editors and other systems do to a file's line ends."""
    text = text.replace("\r\n", "\n")
    return text if text.endswith("\n") or not text else text + "\n"


def _chosen(text: str, host: str, *, strict: bool) -> tuple[list[tuple[conf.Line, str]], str]:
    chosen = []
    for line in conf.lines(text):
        try:
            if matches(line.target, host, strict=line.target in _LONE):
                chosen.append((line, ""))
        except BadPattern as error:
            problem = f"line {line.number}: the target {line.target!r} means nothing: {error.what}"
            if strict:  # NHC ends here, before the first check
                return [], problem
            chosen.append((line, problem))
    return chosen, ""


def _step(line: conf.Line, problem: str, is_native: Callable[[str], bool]) -> Step:
    command = words.parse(line.check)
    if command is None:
        first = line.check.split(maxsplit=1)[0]
        return Step(line.number, line.check, labels.label(first, (), line.number), None, problem)
    if command.name is None:
        return Step(line.number, line.check, labels.label(None, (), line.number), command, problem)
    arguments = [word for each in command.words[1:] for word in words.expand(each, lambda _: "") or ()]
    named = command.name if is_native(command.name) or command.name not in BUILTINS else None
    return Step(line.number, line.check, labels.label(named, arguments, line.number), command, problem)


def needs_bash(plan: Plan, is_native: Callable[[str], bool], only: Collection[int] | None = None) -> bool:
    """Tell whether any of the lines (all, or those of these numbers) is for bash."""
    return any(_is_for_bash(plan, step, is_native) for step in plan.steps if only is None or step.number in only)


def _is_for_bash(plan: Plan, step: Step, is_native: Callable[[str], bool]) -> bool:
    if step.problem or step.is_setting:
        return False
    name = step.command.name if step.command is not None else None
    return name is None or name in plan.functions or not (is_native(name) or name in BUILTINS)


def watched(plan: Plan) -> Iterator[str]:
    """Name the variables that lines which need no bash look at or set."""
    for step in plan.steps:
        if step.command is not None:
            yield from words.names(step.command)
            yield from (name for name, _ in step.command.assignments)
