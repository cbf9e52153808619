# SPDX-License-Identifier: Apache-2.0
import io
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from refloat_cli.views import WaveView, bar, changes, natural, render, summary, view_of
from refloat_contract.messages import WaveNode, WaveReport, WaveSpec
from refloat_contract.words import Phase, Turn, WaveState

NOW = 1_000_000_000.0
SPEC = WaveSpec(nodes="n[1-12]", image="compute-2", max_unavailable=4, canary=1, soak_s=300, reason="kernel update")


def a_view(state: WaveState = WaveState.RUNNING, why: str = "", notice: str = "") -> WaveView:
    nodes = (
        *(WaveNode(node=f"n{n}", turn=Turn.DONE) for n in (1, 2, 3)),
        WaveNode(node="n10", turn=Turn.MARKED, since=NOW - 65, phase=Phase.DRAINING, why="job 4711 runs on the node"),
        WaveNode(node="n9", turn=Turn.MARKED, since=NOW - 12, phase=Phase.REBOOTING),
        WaveNode(node="n8", turn=Turn.MARKED, since=NOW - 1),
        WaveNode(
            node="n4",
            turn=Turn.HELD,
            why="/scratch is not mounted from the right source: it is fs2:/scratch, and should be fs1:/scratch",
        ),
        WaveNode(node="n5", turn=Turn.SKIPPED),
        *(WaveNode(node=f"n{n}", turn=Turn.WAITING) for n in (6, 7, 11, 12)),
    )
    report = WaveReport(id="w1", spec=SPEC, state=state, why=why, started_at=NOW - 200)
    return WaveView(report, nodes, notice)


def text_of(shown: RenderableType, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(shown)
    return "\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n"))


def test_a_wave_in_80_columns() -> None:
    assert text_of(render(a_view(), NOW, 80)) == (
        """\
wave w1  RUNNING                                                           3m20s
reboot n[1-12] to compute-2 · 4 out at once · canary 1, soak 5m00s · kernel
update
━━━━━━━━━━━━━━━━━━━━╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍╍─────────────────────────········xxxxxxx
3 of 12 done · 3 under way · 4 to come · 1 skipped · 1 held

n8    marked          1s
n9    REBOOTING      12s
n10   DRAINING     1m05s  job 4711 runs on the node

held, and waiting for you
n4    /scratch is not mounted from the right source: it is fs2:/scratch, and
      should be fs1:/scratch"""
    )


def test_a_paused_wave_says_why_and_a_viewer_that_lost_the_coordinator_too() -> None:
    shown = text_of(render(a_view(WaveState.PAUSED, "1 node is held, none may be", "lost the coordinator"), NOW, 60))

    assert "wave w1  PAUSED" in shown
    assert "\n1 node is held, none may be\n" in shown
    assert shown.endswith("\nlost the coordinator")


@pytest.mark.parametrize("width", [20, 40, 60, 80, 133, 250])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = text_of(render(a_view(), NOW, width), width).split("\n")

    assert max(map(len, lines)) <= width


def test_many_nodes_fit_a_small_terminal() -> None:
    nodes = tuple(
        WaveNode(node=f"n{n}", turn=Turn.MARKED, since=NOW, phase=Phase.MOUNTING if n % 2 else Phase.DRAINING)
        for n in range(500)
    )

    shown = text_of(render(replace(a_view(), nodes=nodes), NOW, 80, rows=4)).split("\n")

    assert [line.split()[0] for line in shown[-5:-1]] == ["n0", "n1", "n2", "n3"]
    assert shown[-1] == "and 496 more: 248 DRAINING, 248 MOUNTING"


def test_a_long_reason_is_cut_and_nothing_else() -> None:
    width = 60
    nodes = (WaveNode(node="n1", turn=Turn.MARKED, since=NOW, phase=Phase.UNMOUNTING, why="x" * 200),)

    last = text_of(render(replace(a_view(), nodes=nodes), NOW, width), width).split("\n")[-1]

    assert last == "n1    UNMOUNTING      0s  " + "x" * (width - 27) + "…"


def test_names_and_reasons_are_data_not_markup() -> None:
    nodes = (WaveNode(node="n1", turn=Turn.MARKED, since=NOW, phase=Phase.DRAINING, why="[red]job[/red] [/] runs"),)

    assert "[red]job[/red] [/] runs" in text_of(render(replace(a_view(), nodes=nodes), NOW, 80))


@pytest.mark.parametrize(
    "counts",
    [{Turn.DONE: 1}, {Turn.DONE: 9_999, Turn.HELD: 1}, {Turn.WAITING: 3, Turn.MARKED: 1}, dict.fromkeys(Turn, 1)],
)
def test_the_bar_is_full_and_shows_everyone(counts: dict[Turn, int]) -> None:
    text = bar(counts, 80).plain

    assert len(text) == 80
    assert len(set(text)) == len(counts)


def test_a_wave_without_nodes_has_no_bar() -> None:
    assert bar({}, 80).plain == ""


def test_a_log_gets_a_line_for_each_change_and_no_other() -> None:
    before = a_view()
    nodes = tuple(
        node.model_copy(update={"phase": Phase.MOUNTING, "why": "mounting /home"}) if node.node == "n9" else node
        for node in before.nodes
    )
    after = replace(before, nodes=nodes, report=before.report.model_copy(update={"state": WaveState.PAUSED}))

    assert changes(None, before, NOW)[:3] == [
        "01:46:40 wave w1 running: reboot n[1-12] to compute-2 · 4 out at once · canary 1, soak 5m00s · kernel update",
        "01:46:40 n1 done",
        "01:46:40 n2 done",
    ]
    assert changes(before, after, NOW) == ["01:46:40 wave w1 paused", "01:46:40 n9 MOUNTING: mounting /home"]
    assert changes(after, after, NOW) == []
    assert changes(after, replace(after, notice="lost"), NOW) == ["01:46:40 lost"]


def test_the_summary_counts_and_names_the_held() -> None:
    view = a_view(WaveState.FAILED, why="1 held: n4")
    ended = replace(view, report=view.report.model_copy(update={"ended_at": NOW - 100}))

    assert summary(ended, NOW).plain == (
        "wave w1 failed after 1m40s: 3 of 12 nodes done, 3 under way, 4 to come, 1 skipped, 1 held\n"
        "n4 held: /scratch is not mounted from the right source: it is fs2:/scratch, and should be fs1:/scratch"
    )


def test_the_summary_says_why_where_no_node_says_it() -> None:
    report = WaveReport(id="w1", spec=SPEC, state=WaveState.ABORTED, why="by root", started_at=NOW - 5, ended_at=NOW)

    assert summary(WaveView(report, (WaveNode(node="n1", turn=Turn.WAITING),)), NOW).plain == (
        "wave w1 aborted after 5s: 0 of 1 nodes done, 1 to come\nby root"
    )


@pytest.mark.parametrize(
    ("state", "turn", "is_good"),
    [
        (WaveState.DONE, Turn.DONE, True),
        (WaveState.DONE, Turn.SKIPPED, True),
        (WaveState.DONE, Turn.HELD, False),
        (WaveState.FAILED, Turn.DONE, False),
        (WaveState.ABORTED, Turn.DONE, False),
        (WaveState.RUNNING, Turn.DONE, False),
    ],
)
def test_only_a_wave_that_is_done_and_holds_nobody_is_good(state: WaveState, turn: Turn, is_good: bool) -> None:  # noqa: FBT001 - a parameter of the test
    report = WaveReport(id="w1", spec=SPEC, state=state, counts={turn: 1})

    assert WaveView(report).is_good is is_good
    assert WaveView(report, (WaveNode(node="n1", turn=turn),)).is_good is is_good


def test_a_view_is_read_from_what_the_coordinator_answers() -> None:
    view = a_view()
    answer = {"report": view.report.model_dump(mode="json"), "nodes": [n.model_dump(mode="json") for n in view.nodes]}

    assert view_of(answer) == view


def test_nodes_are_in_the_order_in_which_people_count() -> None:
    assert sorted(["n10", "n9", "gpu1", "n1-10", "n1-9", "n"], key=natural) == [
        "gpu1",
        "n",
        "n1-9",
        "n1-10",
        "n9",
        "n10",
    ]


def test_a_node_that_did_not_come_back_is_lost() -> None:
    node = WaveNode(node="n7", turn=Turn.HELD, lost=True, why="did not come back within 1h00m")
    before = a_view()
    after = replace(before, nodes=(*before.nodes, node))

    assert changes(before, after, NOW) == ["01:46:40 n7 lost: did not come back within 1h00m"]
    assert "n7 lost: did not come back within 1h00m" in summary(after, NOW).plain
