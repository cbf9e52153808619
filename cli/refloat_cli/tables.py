# SPDX-License-Identifier: Apache-2.0
"""Tables of nodes, waves, events and checks. Pure but for `now`."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from refloat_cli.durations import moment_of_day as moment
from refloat_cli.durations import short, stamp
from refloat_cli.views import head, natural, phase_of, task, turn_of, view_of
from refloat_contract.messages import Event, NodeReport, WaveReport, WaveSpec
from refloat_contract.words import EventKind, Phase, Status, Verdict

_VERDICTS: Final[Mapping[Verdict, str]] = {
    Verdict.HEALTHY: "green",
    Verdict.UNHEALTHY: "bold red",
    Verdict.UNKNOWN: "yellow",
}
_STATUSES: Final[Mapping[Status, str]] = {
    Status.OK: "green",
    Status.FAILED: "bold red",
    Status.UNKNOWN: "yellow",
}

_BATCHES: Final = 12
_BLOCKS: Final = 8
_HOSTLIST: Final = 60
_OUT: Final = frozenset({"DRAIN", "DOWN", "FAIL"})


def now() -> float:
    """The time that tables count from."""
    return time.time()


def _table(*headings: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading in headings[:-1]:
        table.add_column(heading, no_wrap=True)
    table.add_column(headings[-1], overflow="fold")
    return table


def nodes(found: Sequence[Mapping[str, Any]], at: float) -> RenderableType:
    """What agents and Slurm say of nodes; the answer of ``status``."""
    table = _table("NODE", "SLURM", "PHASE", "FOR", "HEALTH", "WHY")
    for one in found:
        table.add_row(*_node(one, at))
    return Group(table, Text(count(found)))


def _node(one: Mapping[str, Any], at: float) -> list[Text]:
    report = report_of(one)
    slurm = one.get("slurm") or {}
    name, flags = Text(one["node"]), Text("+".join(slurm.get("flags", ())) or "unknown")
    # On a node that is in service Slurm still shows the reason of its last drain.
    reason = slurm.get("reason", "") if _OUT.intersection(slurm.get("flags", ())) else ""
    if report is None:
        return [name, flags, Text("no agent", "bright_black"), Text(), Text(), Text(reason)]
    since = short(at - report.since) if report.since and report.phase is not Phase.IN_SERVICE else ""
    health = Text(report.verdict.value, _VERDICTS[report.verdict])
    phase = _phase(report.phase, is_online=one.get("online", True))
    return [name, flags, phase, Text(since), health, Text(_why(report, reason))]


def _phase(phase: Phase, *, is_online: bool) -> Text:
    styles = {Phase.IN_SERVICE: "", Phase.HELD: "bold red"}
    text = Text(phase.value, styles.get(phase, "bold cyan"))
    # A node that reboots has no agent for a while: its last word still tells most.
    return text if is_online else text.append(", away", "yellow")


def _why(report: NodeReport, reason: str) -> str:
    failing = [f"{failure.check}: {failure.message}" for failure in (*report.failing, *report.unknown)]
    return report.why or "; ".join(failing) or reason


def report_of(one: Mapping[str, Any]) -> NodeReport | None:
    """The agent's report within an answer of ``status``."""
    return None if one.get("report") is None else NodeReport.model_validate(one["report"])


def count(found: Sequence[Mapping[str, Any]]) -> str:
    """How many nodes are how, in one line."""
    kinds = Counter(_kind(one) for one in found)
    noun = "node" if len(found) == 1 else "nodes"
    return (
        f"{len(found)} {noun}: " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()) if found else "no nodes"
    )


def _kind(one: Mapping[str, Any]) -> str:
    report = report_of(one)
    if report is not None and report.phase is not Phase.IN_SERVICE:
        return "held" if report.phase is Phase.HELD else "under way"
    if report is None or not one.get("online", True):
        return "without agent"
    return "unhealthy" if report.verdict is Verdict.UNHEALTHY else "in service"


def agent(answer: Mapping[str, Any], at: float) -> RenderableType:
    """What one agent says of its node, and its checks."""
    parts: list[RenderableType] = [nodes([{**answer, "online": True}], at)]
    if answer.get("config_error"):
        parts.append(Text(f"the configuration on disk is not the one that runs: {answer['config_error']}", "bold red"))
    results = answer.get("checks", ())
    if results:
        parts.append(checks(results))
    if answer.get("events"):
        parts.append(sources(answer["events"]))
    if "counters" in answer:
        parts.append(Text(_costs(answer)))
    return Group(*parts)


def sources(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """What wakes the checks of a node, and how often it did."""
    table = _table("EVENTS OF", "STATE", "SEEN", "LOOKS", "COALESCED", "DROPPED", "NOT WATCHED")
    for one in found:
        state = Text("watched", "green") if one["open"] else Text("missing", "yellow")
        counts = [str(one[name]) for name in ("events", "looks", "coalesced", "dropped")]
        why = one["why"] or "; ".join(f"{wake}: {why}" for wake, why in one.get("left_out", {}).items())
        table.add_row(Text(one["name"]), state, *counts, Text(why))
    return table


def _costs(answer: Mapping[str, Any]) -> str:
    """What the agent costs its node, in one line."""
    counters, helpers = answer["counters"], answer.get("helpers", {})
    said = [f"agent: {counters['rss_bytes'] / (1 << 20):.0f} MB"]
    if "cpu_percent" in counters:
        minutes = counters["rates_over_s"] / 60
        said += [f"{counters['cpu_percent']:.2f} % of a core", f"{counters['wakeups_per_s']:.1f} wake-ups/s"]
        said[-1] += f" (over {minutes:.0f} min)"
    if helpers:
        said.append(f"{helpers['helpers']} helpers, {helpers['abandoned']} of them without an answer")
    if "helpers_rss_bytes" in counters:
        said.append(
            f"{counters['helpers_rss_bytes'] / (1 << 20):.0f} MB in them, {counters['helpers_cpu_s']:.1f} s of CPU"
        )
    return ", ".join(said)


def checks(results: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Results of checks."""
    table = _table("CHECK", "STATUS", "TOOK", "MESSAGE")
    for result in results:
        status = Status(result["status"])
        took = f"{result.get('duration_s', 0.0) * 1000:.0f} ms"
        name = result.get("check") or result.get("name", "")
        message = result["message"] + (f" [counts as: {result['counts_as']}]" if "counts_as" in result else "")
        table.add_row(Text(name), Text(status.value, _STATUSES[status]), took, Text(message))
    return table


def waves(reports: Sequence[Mapping[str, Any]], at: float) -> RenderableType:
    """Waves, one line each."""
    if not reports:
        return Text("no waves")
    table = _table("WAVE", "STATE", "DONE", "HELD", "STARTED", "TOOK", "TASK")
    for given in reports:
        report = WaveReport.model_validate(given)
        view = view_of({"report": given})
        counts = {turn.value: number for turn, number in report.counts.items()}
        total = sum(counts.values())
        table.add_row(
            Text(report.id),
            Text(report.state.value, "" if view.is_good or not view.is_ended else "bold red"),
            f"{counts.get('done', 0)}/{total}",
            str(counts.get("held", 0)),
            stamp(report.started_at),
            short((report.ended_at or at) - report.started_at),
            Text(task(report.spec)),
        )
    return table


def wave(shown: Mapping[str, Any], at: float) -> RenderableType:
    """A wave and all its nodes."""
    view = view_of(shown)
    table = _table("NODE", "TURN", "PHASE", "FOR", "WHY")
    for node in sorted(view.nodes, key=lambda node: natural(node.node)):
        since = short(at - node.since) if node.since else ""
        phase = phase_of(node) if node.turn.value == "marked" else ""
        table.add_row(Text(node.node), turn_of(node), phase, since, Text(node.why))
    return Group(head(view, at, _HEAD_WIDTH), table)


_HEAD_WIDTH: Final = 80


def plan(planned: Mapping[str, Any], at: float) -> RenderableType:
    """What a wave would do: the task, its batches, what stands in its way, how long it takes."""
    spec = WaveSpec.model_validate(planned["spec"])
    parts: list[RenderableType] = [_facts(planned, spec), Text(), _batches(planned["batches"], at)]
    if planned["blocks"]:
        parts += [Text("What stands in the way now", "bold"), _blocks(planned["blocks"])]
    parts += [_expected(planned["estimate"], at), *(Text(f"  {note}", "bright_black") for note in planned["notes"])]
    return Group(*parts)


def _facts(planned: Mapping[str, Any], spec: WaveSpec) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("would do", Text(task(spec)))
    table.add_row("nodes", Text(f"{len(planned['nodes'])}"))
    table.add_row("with the reason", Text(planned["reason"]))
    if planned["conflict"]:
        table.add_row(Text("cannot begin", "bold red"), Text(planned["conflict"]))
    if planned["blocker"]:
        table.add_row("the blocker", Text(planned["blocker"]))
    if not planned["first"]:
        table.add_row("marked at once", Text(f"none: {planned['why']}" if planned["why"] else "none"))
    return table


def _batches(batches: Sequence[Mapping[str, Any]], at: float) -> RenderableType:
    if not batches:
        return Text("No node would be taken out.", "yellow")
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading in ("BATCH", "COUNT", "FROM", "TO"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "COUNT" else "left")
    table.add_column("NODES", overflow="fold")
    numbered = list(enumerate(batches, 1))
    shown = numbered if len(numbered) <= _BATCHES else [*numbered[: _BATCHES - 1], numbered[-1]]
    for number, batch in shown:
        if number == len(numbered) > len(shown):
            table.add_row("...", "", "", "", Text(f"{len(numbered) - len(shown)} batches more"))
        name = f"{number} (canary)" if batch["canary"] else str(number)
        times = [moment(at + batch[key], at) for key in ("begins_s", "ends_s")]
        table.add_row(name, str(batch["count"]), *times, Text(_shortened(batch["nodes"])))
    return table


def _blocks(blocks: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for block in blocks[:_BLOCKS]:
        table.add_row(str(block["count"]), block["turn"], Text(f"{_shortened(block['nodes'])}: {block['why']}"))
    if len(blocks) > _BLOCKS:
        table.add_row("", "", Text(f"and {len(blocks) - _BLOCKS} other reasons (--json has them)"))
    return table


def _expected(found: Mapping[str, Any], at: float) -> Text:
    """How long it takes and what it costs, in one line."""
    if not found["duration_s"]:
        return Text()
    until = moment(at + found["duration_s"], at)
    lost = f"{found['lost_node_hours']:g} node-hours of service lost"
    return Text.assemble(("About ", "bold"), (short(found["duration_s"]), "bold"), f", until {until}; {lost}.")


def _shortened(text: str) -> str:
    return text if len(text) <= _HOSTLIST else f"{text[:_HOSTLIST]}..."


def summary(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """How many nodes are how; the answer of ``summary``."""
    if not found:
        return Text("no nodes")
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("COUNT", justify="right", no_wrap=True)
    for heading in ("PHASE", "HEALTH", "SLURM", "IMAGE"):
        table.add_column(heading, no_wrap=True)
    table.add_column("NODES", overflow="fold", ratio=1)
    table.add_column("WHY", overflow="fold", ratio=1)
    for one in found:
        table.add_row(str(one["count"]), *_alike(one))
    total = sum(one["count"] for one in found)
    return Group(table, Text(f"{total} {'node' if total == 1 else 'nodes'}; refloat status --long shows each"))


def _alike(one: Mapping[str, Any]) -> list[Text]:
    tail = [Text(one["slurm"]), Text(one["image"] or "-"), Text(one["nodes"]), Text(one["why"])]
    if one["agent"] == "none":
        return [Text("no agent", "bright_black"), Text(), *tail]
    verdict = Verdict(one["verdict"])
    return [_phase(Phase(one["phase"]), is_online=one["agent"] == "online"), Text(verdict, _VERDICTS[verdict]), *tail]


_ALARMING: Final = frozenset({"hold", "check_failed", "node_lost", "wave_paused", "incident_opened"})


def events(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Events, oldest first."""
    if not found:
        return Text("no events")
    table = _table("TIME", "NODE", "KIND", "WHAT")
    for given in found:
        table.add_row(*_event(Event.model_validate(given)))
    return table


def _event(event: Event) -> list[Text]:
    style = "bold red" if event.kind.value in _ALARMING else ""
    return [Text(stamp(event.at_ns / 1e9)), Text(event.node), Text(event.kind.value, style), Text(_told(event))]


def event_line(given: Mapping[str, Any]) -> str:
    """One event as a line of a log."""
    event = Event.model_validate(given)
    return f"{stamp(event.at_ns / 1e9)} {event.node} {event.kind}: {_told(event)}"


def _told(event: Event) -> str:
    says_it_already = event.kind is EventKind.PHASE_ENTERED
    took = f" ({short(event.duration_s)})" if event.duration_s and not says_it_already else ""
    return f"{event.title}: {event.message}{took}" if event.title else f"{event.message}{took}"
