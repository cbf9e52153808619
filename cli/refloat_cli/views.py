# SPDX-License-Identifier: Apache-2.0
"""How a wave looks: live in a terminal, as lines in a log, and at its end. Pure: no clock, no terminal."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from rich.console import Group, JustifyMethod, RenderableType
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

from refloat_cli.durations import clock, short
from refloat_contract.messages import WaveNode, WaveReport, WaveSpec
from refloat_contract.words import NodeOrder, Phase, Turn, WaveState

_STATES: Final[Mapping[WaveState, str]] = {
    WaveState.RUNNING: "bold cyan",
    WaveState.PAUSED: "bold yellow",
    WaveState.DONE: "bold green",
    WaveState.FAILED: "bold red",
    WaveState.ABORTED: "bold red",
}
# Told apart by their shape as well as by their colour.
_BAR: Final[Mapping[Turn, tuple[str, str]]] = {
    Turn.DONE: ("━", "green"),
    Turn.MARKED: ("╍", "cyan"),
    Turn.WAITING: ("─", "bright_black"),
    Turn.SKIPPED: ("·", "bright_black"),
    Turn.HELD: ("x", "red"),
}
_ENDED: Final = frozenset({WaveState.DONE, WaveState.FAILED, WaveState.ABORTED})
_ROWS: Final = 16
_NAME_AT_MOST: Final = 24
_GAP: Final = 2
_JUSTIFY: Final[tuple[JustifyMethod, ...]] = ("left", "left", "right")


@dataclass(frozen=True, slots=True)
class WaveView:
    """A wave and its nodes, as the coordinator last told; ``notice`` is what the viewer has to say of itself."""

    report: WaveReport
    nodes: tuple[WaveNode, ...] = ()
    notice: str = ""

    @property
    def counts(self) -> Counter[Turn]:
        """How many nodes are at each turn."""
        return Counter(node.turn for node in self.nodes) or Counter(self.report.counts)

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.report.state in _ENDED

    @property
    def why(self) -> str:
        """Why the wave is as it is; nothing where it ended with held nodes, which say it better themselves."""
        return "" if self.is_ended and self.counts[Turn.HELD] else self.report.why

    @property
    def is_good(self) -> bool:
        """Whether it ended with every node that it was to do."""
        return self.report.state is WaveState.DONE and not self.counts[Turn.HELD]

    def at_turn(self, turn: Turn) -> list[WaveNode]:
        """The nodes at this turn, in the order in which people count."""
        return sorted((node for node in self.nodes if node.turn is turn), key=lambda node: natural(node.node))


def view_of(shown: Mapping[str, Any]) -> WaveView:
    """A view of what ``wave_show`` and ``wave_watch`` answer."""
    nodes = tuple(WaveNode.model_validate(node) for node in shown.get("nodes", ()))
    return WaveView(WaveReport.model_validate(shown["report"]), nodes)


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key by which n9 comes before n10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def render(view: WaveView, now: float, width: int, rows: int = _ROWS) -> RenderableType:
    """The wave at this moment, ``width`` columns wide: at most ``rows`` nodes under way, and as many held."""
    parts: list[RenderableType] = [head(view, now, width)]
    under_way = view.at_turn(Turn.MARKED)
    if under_way:
        parts += [Text(), _under_way(under_way, now, width, rows)]
    held = view.at_turn(Turn.HELD)
    if held:
        parts += [Text(), Text("held, and waiting for you", style="bold red"), _held(held, rows)]
    if view.notice:
        parts += [Text(), Text(view.notice, style="black on yellow")]
    return Constrain(Group(*parts), width)


def head(view: WaveView, now: float, width: int) -> RenderableType:
    """The wave without its nodes: what it is, how far it is, what it waits for."""
    why = [Text(view.why, style="yellow")] if view.why else []
    if view.report.state is WaveState.PAUSED:
        name = view.report.id
        why.append(Text(f"go on: refloat wave resume {name}; end: refloat wave abort {name}", style="bright_black"))
    return Constrain(Group(_title(view, now, width), bar(view.counts, width), _counts(view), *why), width)


def _title(view: WaveView, now: float, width: int) -> RenderableType:
    report = view.report
    title = Text.assemble(("wave ", "bold"), (report.id, "bold"), "  ", (report.state.upper(), _STATES[report.state]))
    line = Table.grid(expand=True)
    line.add_column(overflow="ellipsis", no_wrap=True)
    line.add_column(justify="right", no_wrap=True)
    line.add_row(title, Text(short(elapsed(report, now)), style="bold"))
    by = f" · by {report.by}" if report.by else ""
    return Constrain(Group(line, Text(task(report.spec) + by, style="bright_black")), width)


def elapsed(report: WaveReport, now: float) -> float:
    """Seconds that a wave has taken until now, or took."""
    return (report.ended_at or now) - report.started_at


def task(spec: WaveSpec) -> str:
    """What a wave shall do, in one line."""
    words = [f"{spec.recipe} {spec.nodes}"]
    if spec.image:
        words[0] += f" to {spec.image}"
    words.append(f"{spec.max_unavailable} out at once")
    words += [f"{amount} of each {kind}" for kind, amount in spec.per_group.items()]
    if spec.canary:
        words.append(f"canary {spec.canary}" + (f", soak {short(spec.soak_s)}" if spec.soak_s else ""))
    if spec.max_failures:
        words.append(f"{spec.max_failures} may fail")
    if spec.order is not NodeOrder.NAME:
        words.append(f"{spec.order}")
    if spec.window:
        words.append(spec.window)
    if spec.deadline_s is not None:
        words.append(f"jobs have {short(spec.deadline_s)}, then {spec.on_deadline}")
    if spec.blocker:
        words.append(f"unless {spec.blocker} blocks")
    if spec.reason:
        words.append(spec.reason)
    return " · ".join(words)


def bar(counts: Mapping[Turn, int], width: int) -> Text:
    """A bar of ``width`` columns in which every turn that any node is at can be seen."""
    total = sum(counts.values())
    text = Text(no_wrap=True)
    if not total:
        return text
    ends = [0, *_ends(counts, total, width)]
    for (start, end), (mark, style) in zip(pairwise(ends), _BAR.values(), strict=True):
        text.append(mark * (end - start), style)
    return text


def _ends(counts: Mapping[Turn, int], total: int, width: int) -> Iterator[int]:
    # A column for everyone who is there at all, and the rest by share.
    present = [turn for turn in _BAR if counts.get(turn)]
    spare = max(0, width - len(present))
    seen = columns = 0
    for turn in _BAR:
        seen += counts.get(turn, 0)
        columns += turn in present
        yield min(width, columns + round(spare * seen / total))


def _counts(view: WaveView) -> Text:
    counts = view.counts
    parts = [
        Text.assemble((str(counts[Turn.DONE]), "bold green"), f" of {sum(counts.values())} done"),
        *(
            Text.assemble((str(counts[turn]), f"bold {_BAR[turn][1]}"), f" {word}")
            for turn, word in _COUNTED.items()
            if counts[turn]
        ),
    ]
    return Text(" · ").join(parts)


_COUNTED: Final = {
    Turn.MARKED: "under way",
    Turn.WAITING: "to come",
    Turn.SKIPPED: "skipped",
    Turn.HELD: "held",
}


def _under_way(nodes: Sequence[WaveNode], now: float, width: int, rows: int) -> RenderableType:
    widths = (_name_width(nodes), max(len(phase) for phase in Phase), 6)
    table = Table.grid(padding=(0, _GAP))
    for columns, justify, style in zip(widths, _JUSTIFY, ("", "cyan", ""), strict=True):
        table.add_column(width=columns, justify=justify, style=style, no_wrap=True, overflow="ellipsis")
    table.add_column(no_wrap=True)
    # Cut here: a table that is too wide takes it from all columns.
    left_for_why = max(1, width - sum(widths) - _GAP * len(widths))
    for node in nodes[:rows]:
        why = Text(node.why)
        why.truncate(left_for_why, overflow="ellipsis")
        table.add_row(Text(node.node), phase_of(node), short(now - node.since), why)
    left = nodes[rows:]
    if not left:
        return table
    phases = Counter(phase_of(node) for node in left)
    told = ", ".join(f"{count} {phase}" for phase, count in phases.most_common())
    return Group(table, Text(f"and {len(left)} more: {told}", style="bright_black"))


def phase_of(node: WaveNode) -> str:
    """The phase of a node under way; one whose agent has not begun yet is just marked."""
    return "marked" if node.phase is Phase.IN_SERVICE else node.phase.value


def turn_of(node: WaveNode) -> str:
    """Where a node is in its wave; one that is held because it has not come back is lost."""
    return "lost" if node.lost else node.turn.value


def _held(nodes: Sequence[WaveNode], rows: int) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(width=_name_width(nodes), no_wrap=True, overflow="ellipsis")
    table.add_column(overflow="fold", ratio=1)
    for node in nodes[:rows]:
        lost = "lost: " if node.lost else ""
        table.add_row(Text(node.node), Text(f"{lost}{node.why or 'it does not say why'}"))
    left = nodes[rows:]
    return Group(table, Text(f"and {len(left)} more", style="bright_black")) if left else table


def _name_width(nodes: Sequence[WaveNode]) -> int:
    return min(_NAME_AT_MOST, max(4, *(len(node.node) for node in nodes)))


def changes(before: WaveView | None, after: WaveView, now: float) -> list[str]:
    """What a log needs to know of an update: one line for each change."""
    lines: list[str] = []
    old = {node.node: node for node in before.nodes} if before else {}
    if before is None:
        lines.append(f"wave {after.report.id} {after.report.state}: {task(after.report.spec)}")
    elif (before.report.state, before.report.why) != (after.report.state, after.report.why):
        lines.append(_with_why(f"wave {after.report.id} {after.report.state}", after.report.why))
    for node in sorted(after.nodes, key=lambda node: natural(node.node)):
        line = _line(node)
        is_news = node.turn is not Turn.WAITING if before is None else line != _line(old.get(node.node, node))
        if is_news:
            lines.append(line)
    if after.notice and (before is None or before.notice != after.notice):
        lines.append(after.notice)
    return [f"{clock(now)} {line}" for line in lines]


def _line(node: WaveNode) -> str:
    what = phase_of(node) if node.turn is Turn.MARKED else turn_of(node)
    return _with_why(f"{node.node} {what}", node.why)


def _with_why(text: str, why: str) -> str:
    return f"{text}: {why}" if why else text


def summary(view: WaveView, now: float) -> Text:
    """How a wave ended, in one sentence and a line for each held node."""
    report, counts = view.report, view.counts
    told = [f"{counts[Turn.DONE]} of {sum(counts.values())} nodes done"]
    told += [f"{counts[turn]} {word}" for turn, word in _COUNTED.items() if counts[turn]]
    text = Text.assemble(
        f"wave {report.id} ",
        (report.state.value, _STATES[report.state]),
        f" after {short(elapsed(report, now))}: {', '.join(told)}",
    )
    if view.why:
        text.append(f"\n{view.why}", "yellow")
    for node in view.at_turn(Turn.HELD):
        text.append(f"\n{_line(node)}")
    return text
