# SPDX-License-Identifier: Apache-2.0
"""Write the parts of docs/ that are made from the code; with --check, say whether they are up to date."""

import argparse
import inspect
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import decisions
import manual
from pydantic import BaseModel

from refloat_agent import holds
from refloat_agent.config import REBOOT, AgentSettings
from refloat_agent.recipes import PHASES, UNSAFE_KINDS, OnFailure, Step, StepKind, why_step_refused
from refloat_agent.state import TRANSITIONS
from refloat_checks import registry
from refloat_checks.kernel_rules import RULES
from refloat_checks.nhc import deviations
from refloat_checks.nhc.forms import table
from refloat_cli.operator_file import OperatorSettings
from refloat_cli.simulate.plan import Plan
from refloat_contract.held import Hold
from refloat_contract.words import Phase
from refloat_coordinator.config import CoordinatorSettings
from refloat_coordinator.waves import holds as wave_holds
from refloat_service.reference import reference

DOCS: Final = Path(__file__).parent
_TABLE: Final = ("<!-- deviations: made by docs/generate.py -->", "<!-- end of deviations -->")
_FORMS: Final = ("<!-- forms: made by docs/generate.py -->", "<!-- end of forms -->")
_PLAN: Final = ("<!-- plan: made by docs/generate.py -->", "<!-- end of plan -->")
_NOTE: Final = "<!-- Made by docs/generate.py (make docs) from the code; edit that. -->\n\n"


def configuration() -> str:
    """The reference of all configuration files."""
    intro = (
        "# Configuration\n\n"
        "TOML files: agent.toml on the nodes, coordinator.toml where the coordinator runs, operator.toml where\n"
        "somebody asks the coordinator over MQTT ([broker](broker.md)).\n"
        "An unknown key is an error that names the nearest known one; `refloat config check FILE` tells before a daemon"
        " does.\n"
        "An environment variable overrides a key: `REFLOAT_AGENT__SLURM__POLL_S=10`, "
        "`REFLOAT_COORDINATOR__FEED__PERIOD_S=2`.\n\n"
    )
    files = (
        reference(AgentSettings, "agent.toml"),
        reference(CoordinatorSettings, "coordinator.toml"),
        reference(OperatorSettings, "operator.toml"),
    )
    return _NOTE + intro + "\n".join(files)


def checks() -> str:
    """The reference of checks: the keys that all have, then those of each kind."""
    intro = (
        "# Checks\n\nEach check is one `[[check]]` table in agent.toml. It finds OK, FAILED or UNKNOWN.\n"
        "UNKNOWN (it could not be looked at) never drains a node and never clears a drain.\n"
        "It is looked at on its interval, and at once when something happens that wakes it, where its kind says so.\n"
    )
    parts = [
        intro,
        "## Keys of every check\n",
        "`type`: the kind of check, see below.\n",
        _keys(registry.CheckSpec, skip={"kind", "limits"}),
    ]
    for kind in registry.KINDS.values():
        doc = inspect.cleandoc(kind.limits.__doc__ or "")
        parts.append(f'\n## type = "{kind.name}"\n\n{doc}\n\n{_woken(kind)}{_keys(kind.limits)}')
    return _NOTE + "\n".join(parts)


def _woken(kind: registry.Kind) -> str:
    """By what, as the docstring of its ``wakes`` says behind the colon."""
    by = inspect.cleandoc(kind.wakes.__doc__ or "").partition(": ")[2]
    return f"Woken by: {by}\n\n" if by else ""


def _keys(model: type[BaseModel], skip: Iterable[str] = ()) -> str:
    rows = ["| key | default | what |", "| --- | --- | --- |"]
    for name, field in model.model_fields.items():
        if name not in skip:
            default = "(required)" if field.is_required() else f"`{field.get_default(call_default_factory=True)}`"
            text = (field.description or "").replace("|", "\\|")
            rows.append(f"| `{name}` | {default.replace('`None`', '-')} | {text} |")
    return "\n".join(rows) + "\n"


_SOURCES = """The forms of the lines are those that the drivers' own sources print (Linux 4.18 to 6.x; Lustre's LNet;
HPE's Slingshot driver `shs-cxi-driver`; the BeeGFS client, which logs here from version 8, and before with
`logType = syslog`). Xids are weighed by NVIDIA's catalogue (docs.nvidia.com/deploy/xid-errors): what it answers with a
reset of the GPU or a reboot drains; what it answers with a restart of the application, or not at all, is no fault of
the node; of those of NVLink (144 to 150), whose weight depends on subcodes, Xid 154 says what the driver wants done.

Not covered, for want of a source that shows the lines: GPFS, whose daemon logs to `/var/adm/ras` (see type `gpfs`);
LNet going down over Slingshot or TCP (see types `lustre` and `link`). A site that has such lines adds rules of its own.

"""


def kernel_log() -> str:
    """The shipped rules of the kernel log."""
    intro = (
        "# Lines of the kernel log that are faults\n\nThe shipped rules of checks of type `kernel-log` (checks.md). "
        "`drain`: fails the check; `warn`: is told in its message.\n\n" + _SOURCES
    )
    rows = ["| id | severity | ends with | means | pattern |", "| --- | --- | --- | --- | --- |"]
    for rule in RULES:
        ends = f"{rule.after_s:g} s without" if rule.clears == "time" else rule.clears
        often = f" (more than {rule.more_than} in {rule.after_s:g} s)" if rule.more_than else ""
        pattern = rule.pattern.replace("|", "\\|")
        rows.append(f"| `{rule.id}` | {rule.severity} | {ends} | {rule.meaning}{often} | `{pattern}` |")
    return _NOTE + intro + "\n".join(rows) + "\n"


def state_machine() -> str:
    """The way of the recipe `reboot`, every move that the agent allows, and what each step of a recipe is."""
    phases = [Phase.DRAINING, *(step.phase for step in REBOOT.all_steps())]
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> DRAINING"]
    lines += [f"    {source} --> {target}" for source, target in itertools.pairwise(phases)]
    lines += ["    CHECKING --> MOUNTING: storage is gone again", f"    {phases[-1]} --> [*]", "```"]
    table = ["| from | to |", "| --- | --- |"]
    table += [f"| {source} | {', '.join(t for t in Phase if t in TRANSITIONS[source])} |" for source in Phase]
    return (
        _NOTE + "# The state machine of a cycle\n\n"
        "The recipe `reboot`, which is built in. From every phase a cycle may be held, or cancelled by an "
        "administrator.\n\n" + "\n".join(lines) + "\n\n## Moves\n\n"
        "What any recipe may do, from `TRANSITIONS` in `agent/refloat_agent/state.py`; the agent stops with an error "
        "rather than make a move that is not in it, or that is not in the order of the recipe's steps. From IN_SERVICE "
        "a cycle begins in DRAINING; the other ways in are those of a node that booted, or whose journal is gone, and "
        "goes on by its reason alone.\n\n" + "\n".join(table) + "\n\n" + _steps()
    )


def _steps() -> str:
    rows = ["## Steps\n", "| step | phase | only on a node proven empty | `on_failure` |", "| --- | --- | --- | --- |"]
    for kind in StepKind:
        probe = Step(kind, argv=(("true",),) if kind is StepKind.RUN else ())
        given_up = [way for way in OnFailure if why_step_refused(replace(probe, on_failure=way)) is None]
        empty = "yes" if kind in UNSAFE_KINDS else "its hooks"
        rows.append(f"| `{kind}` | {PHASES[kind]} | {empty} | {', '.join(f'`{way}`' for way in given_up)} |")
    return "\n".join(rows) + "\n"


def nhc() -> str:
    """The page about NHC as it is written, with the tables of deviations and of TOML forms put between their marks."""
    rows = ["| checks | NHC | refloat | why |", "| --- | --- | --- | --- |"]
    for row in deviations.ALL:
        cells = (", ".join(f"`{name}`" for name in row.checks), row.nhc, row.refloat, row.why)
        rows.append("| " + " | ".join(_escaped(cell) for cell in cells) + " |")
    return _between(_between((DOCS / "nhc.md").read_text(), _TABLE, rows), _FORMS, _forms())


def _forms() -> list[str]:
    rows = ["| in the nhc.conf | in agent.toml, with a `name` |", "| --- | --- |"]
    for check in sorted(table.ALL):
        form = table.ALL[check]
        keys = "; ".join(table.lines(table.convert(form.example).tables[0]))
        rows.append(f"| `{_escaped(form.example)}` | `{_escaped(keys)}` |")
    return rows


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def _between(text: str, marks: tuple[str, str], rows: list[str]) -> str:
    before, _, rest = text.partition(marks[0])
    return before + marks[0] + "\n" + "\n".join(rows) + "\n" + marks[1] + rest.partition(marks[1])[2]


def simulate() -> str:
    """The page about `refloat simulate` as it is written, with the reference of its plan file put between the marks."""
    keys = reference(Plan, "Keys").replace("\n## ", "\n#### ").replace("# Keys", "### Its keys", 1)
    return _between((DOCS / "simulate.md").read_text(), _PLAN, ["", keys])


_HELD: Final = """# When a node is held

A held node waits for a human: its cycle stopped, and the node stays drained. Its reason is `refloat-hold:` and one of
the sentences below; `refloat why n7` says the same, and what the cycle did before.

    sinfo -R | grep refloat-hold                # which nodes
    refloat why n7                              # why, since when, what went before
    refloat events n7 --since 1d
    refloat cycle release n7 --because '...'    # mended: mount, start, check, resume
    refloat cycle retry n7                      # or the whole cycle anew, with its reboot

`release` never reboots, and resumes nothing that is not proven: where the cause is still there the node is held again,
with its sentence. `retry` begins from the first step. `scontrol update nodename=n7 state=resume` works as well; refloat
then believes you, mounts and starts what is missing, and goes on checking the node. A drain that stood before the cycle
stands behind `was:` in the reason, and is given back instead of a resume. A reason that somebody wrote by hand after
`refloat-hold:` is left alone in the same way.

Where a sentence says `failed 5 times` or `did not end within its deadline`, what stands behind the colon is the last
try's own complaint: the words of the tool that failed.

"""


def held() -> str:
    """Every sentence that a node is held with."""
    agent = [_hold(entry) for entry in holds.ALL]
    wave = [_hold(entry) for entry in wave_holds.ALL]
    return (
        _NOTE + _HELD + "## What the agent says\n\n" + "\n".join(agent) + "\n## What a wave says\n\n"
        "A wave counts the nodes that their agents hold, and calls these held by itself. They are in `refloat wave "
        "watch` and `refloat wave show`; the node's reason is still that of the cycle.\n\n" + "\n".join(wave)
    )


def _hold(entry: Hold) -> str:
    heading = entry.id.replace("-", " ")
    return f"### {heading}\n\n    {entry.example}\n\n{entry.means}\n\n**Do:** {entry.do}\n"


PAGES: Final[dict[str, Callable[[], str]]] = {
    "configuration.md": configuration,
    "checks.md": checks,
    "kernel-log.md": kernel_log,
    "state-machine.md": state_machine,
    "decisions.md": lambda: _NOTE + decisions.page(),
    "nhc.md": nhc,
    "held.md": held,
    "simulate.md": simulate,
}


def _pages() -> Iterator[tuple[Path, str]]:
    """All that is made, with where it belongs."""
    for name, make in PAGES.items():
        yield DOCS / name, make()
    for name, text in manual.pages(checks()).items():
        yield DOCS / "man" / name, text


def main() -> int:
    """Write or check all pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is not up to date")
    check = parser.parse_args().check
    made = dict(_pages())
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    gone = [path for path in (DOCS / "man").glob("*.?") if path not in made]
    for path in (*stale, *gone):
        name = path.relative_to(DOCS.parent)
        sys.stderr.write(f"{name} {'is not up to date: make docs' if check else 'written'}\n")
    if not check:
        _write({path: made[path] for path in stale}, gone)
    return 1 if check and (stale or gone) else 0


def _write(made: Mapping[Path, str], gone: Iterable[Path]) -> None:
    for path, text in made.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    for path in gone:
        path.unlink()


if __name__ == "__main__":
    sys.exit(main())
