# SPDX-License-Identifier: Apache-2.0
"""Which nodes run what, and in what those differ that do not run what most do. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from refloat_cli.tables import report_of
from refloat_contract.messages import Runs
from refloat_coordinator import hostlists

_FIELDS: Final = ("image", "os", "kernel", "cmdline")
_DIFFERENCES: Final = 4


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes that run the same; ``known`` is false for those that do not say what."""

    value: str
    nodes: str
    count: int
    differs: tuple[str, ...] = ()
    known: bool = True

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


def groups(found: Sequence[Mapping[str, Any]], by: str) -> list[Group]:
    """The nodes by what they run, most first; those that do not tell come last."""
    members: dict[str | None, list[tuple[str, Runs]]] = {}
    for one in found:
        report = report_of(one)
        runs = report.runs if report is not None else None
        value = None if runs is None else _value(runs, by)
        members.setdefault(value, []).append((one["node"], runs or Runs()))
    ordered = sorted(members.items(), key=lambda group: (group[0] is None, -len(group[1])))
    most = ordered[0][1][0][1] if ordered else Runs()
    return [
        Group(
            value or "",
            hostlists.fold(name for name, _ in nodes),
            len(nodes),
            () if value is None or number == 0 else differences(most, nodes[0][1]),
            value is not None,
        )
        for number, (value, nodes) in enumerate(ordered)
    ]


def _value(runs: Runs, by: str) -> str | None:
    if by in {*_FIELDS, "digest"}:
        return str(getattr(runs, by))
    return runs.versions.get(by)


def differences(most: Runs, runs: Runs) -> tuple[str, ...]:
    """In what one node differs from another, as ``kernel 6.1 (most: 6.2)``."""
    pairs = [(name, getattr(runs, name), getattr(most, name)) for name in _FIELDS]
    names = sorted({*most.versions, *runs.versions})
    pairs += [(name, runs.versions.get(name, "-"), most.versions.get(name, "-")) for name in names]
    return tuple(
        f"{name} {mine or 'none'} (most: {theirs or 'none'})" for name, mine, theirs in pairs if mine != theirs
    )


def exit_status(found: Sequence[Group]) -> int:
    """0 where all that tell run the same, 1 where they do not, 3 where none tells."""
    known = [group for group in found if group.known]
    return 3 if not known else int(len(known) > 1)


def table(found: Sequence[Group], by: str) -> RenderableType:
    """One line for each group."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    shown.add_column(by.upper(), overflow="fold")
    shown.add_column("COUNT", justify="right", no_wrap=True)
    shown.add_column("NODES", overflow="fold")
    shown.add_column("DIFFERS IN", overflow="fold")
    for group in found:
        value = Text(group.value or "none") if group.known else Text("not told", "yellow")
        more = len(group.differs) - _DIFFERENCES
        told = [*group.differs[:_DIFFERENCES], *([f"and {more} more"] if more > 0 else [])]
        shown.add_row(value, str(group.count), Text(group.nodes), Text("; ".join(told)))
    return shown
