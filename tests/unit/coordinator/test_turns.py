# SPDX-License-Identifier: Apache-2.0
import pytest
from unit.coordinator.world import T0, TRIGGER, WAVE, cycle, ended, event, fleet_of, status, view, wave_over, will

from refloat_contract.messages import Event, NodeStatus, SlurmView
from refloat_contract.reasons import Dialect
from refloat_contract.words import Outcome, Phase, Turn
from refloat_coordinator.waves import turns
from refloat_coordinator.waves.member import Member
from refloat_coordinator.waves.turns import Ours, Ready, Skip, Wait

REBOOTING = f"rebooting refloat=c1 boot=aaaaaaaa wave={WAVE}"
MARKED = Member(node="n1", turn=Turn.MARKED, since=T0, confirmed=True, boot_time=1000, slurmd_start_time=1010)


@pytest.mark.parametrize(
    ("slurm", "agent", "expected"),
    [
        (view(), status(), Ready()),
        (view(state="MIXED"), status(), Ready()),
        (view(state="IDLE", reason="rebooting refloat=old"), status(), Ready()),
        (view(known=False), status(), Skip("unknown to Slurm")),
        (view(state="IDLE+DRAIN", reason="bad DIMM"), status(), Skip("drained: bad DIMM")),
        (view(state="IDLE+DRAIN"), status(), Skip("drained")),
        (view(state="DOWN", reason="bad DIMM"), status(), Skip("down: bad DIMM")),
        (view(state="IDLE+DRAIN", reason="refloat-hold: x refloat=c0"), status(), Skip),
        (view(state="IDLE+DRAIN", reason="refloat: mount: gone"), status(), Wait),
        (view(state="IDLE+DRAIN", reason="reboot by hand"), status(), Wait("in a cycle of its own: reboot by hand")),
        (view(state="IDLE+DRAIN", reason="reboot wave=w9"), status(), Wait),
        (view(state="IDLE+DRAIN", reason=TRIGGER), status(), Ours()),
        (view(state="DOWN+DRAIN", reason=REBOOTING), will(), Ours()),
        (view(state="IDLE", reason=TRIGGER), status(), Ready()),  # stale: the node is in service
        (view(state="IDLE+NOT_RESPONDING"), status(), Wait("not responding")),
        (view(state="IDLE+POWERED_DOWN"), status(), Wait("powered down")),
        (view(), will(), Wait("no agent is online there")),
        (view(), status(observe_only=True), Skip("its agent only observes")),
        (view(), status(phase=Phase.CHECKING), Wait("in phase CHECKING")),
    ],
)
def test_whether_a_waiting_node_can_be_marked(slurm: SlurmView, agent: NodeStatus, expected: object) -> None:
    found = turns.standing(Member(node="n1"), wave_over("n1"), fleet_of(slurm, agent).node("n1"), Dialect())

    assert isinstance(found, expected) if isinstance(expected, type) else found == expected


def test_a_node_without_an_agent_waits() -> None:
    assert turns.standing(Member(node="n1"), wave_over("n1"), fleet_of(view()).node("n1"), Dialect()) == Wait(
        "no agent is online there"
    )


def test_a_hold_may_be_replaced_only_when_an_operator_asked_for_another_try() -> None:
    held = fleet_of(
        view(state="IDLE+DRAIN", reason="refloat-hold: x refloat=c1"), status(phase=Phase.HELD, now=cycle())
    ).node("n1")
    retried = Member(node="n1", attempt=2, spent=("c1",))

    assert turns.standing(retried, wave_over("n1"), held, Dialect()) == Ready()
    assert isinstance(turns.standing(retried.but(spent=("c0",)), wave_over("n1"), held, Dialect()), Skip)


@pytest.mark.parametrize(
    ("facts", "turn"),
    [
        ([view(state="IDLE+DRAIN", reason=TRIGGER), status()], Turn.MARKED),
        ([view(), status(last=ended(), at=2.0)], Turn.DONE),
        ([view(), event(), status()], Turn.DONE),
        ([view(), status(last=ended(wave="w0"))], Turn.MARKED),
        ([view(state="IDLE+DRAIN", reason=TRIGGER), status(phase=Phase.HELD, now=cycle(), why="no link")], Turn.HELD),
        ([view(state="IDLE+DRAIN", reason="refloat-hold: no link refloat=c1"), will()], Turn.HELD),
        ([view(), status(last=ended(Outcome.HELD, why="no link"))], Turn.HELD),
        ([view(), status(last=ended(Outcome.CANCELLED))], Turn.SKIPPED),
        ([view(state="IDLE+DRAIN", reason="bad DIMM"), status()], Turn.SKIPPED),
        ([view(state="IDLE+DRAIN", reason="bad DIMM"), status(phase=Phase.REBOOTING, now=cycle())], Turn.MARKED),
        ([view(state="DOWN+DRAIN", reason=REBOOTING), will()], Turn.MARKED),
    ],
)
def test_what_becomes_of_a_marked_node(facts: list[SlurmView | NodeStatus | Event], turn: Turn) -> None:
    fleet = fleet_of(*facts, now=T0 + 5)

    assert turns.judged(MARKED, wave_over("n1"), fleet, T0 + 5).turn is turn


@pytest.mark.parametrize(
    ("image", "boot_id", "turn"),
    [("B", "boot-b", Turn.DONE), ("A", "boot-b", Turn.HELD), ("", "boot-b", Turn.HELD), ("B", "boot-a", Turn.MARKED)],
)
def test_done_means_the_image_asked_for_in_the_boot_of_the_cycle(image: str, boot_id: str, turn: Turn) -> None:
    fleet = fleet_of(view(), event(), status(image=image, boot_id=boot_id))
    after = turns.judged(MARKED, wave_over("n1", image="B"), fleet, T0)

    assert after.turn is turn
    if turn is Turn.HELD:
        assert after.why == f"booted image {image or '(it names none)'}, wanted B"


def test_a_node_that_does_not_come_back_is_lost_after_its_deadline() -> None:
    wave = wave_over("n1", node_deadline_s=600)
    fleet = fleet_of(
        view(state="DOWN+DRAIN", reason=REBOOTING), status(phase=Phase.REBOOTING, now=cycle()), will(), now=T0 + 1
    )
    gone = turns.judged(MARKED, wave, fleet, T0 + 10)
    still = turns.judged(gone, wave, fleet, T0 + 610)
    lost = turns.judged(still, wave, fleet, T0 + 611)

    assert still.turn is Turn.MARKED
    assert (lost.turn, lost.why, lost.lost) == (Turn.HELD, "did not come back within 600 s", True)


def test_a_draining_node_may_take_as_long_as_its_jobs_do() -> None:
    fleet = fleet_of(
        view(state="MIXED+DRAIN", reason=TRIGGER, slurmd_start_time=5000),
        status(phase=Phase.DRAINING, now=cycle()),
    )
    member = turns.judged(MARKED, wave_over("n1", node_deadline_s=600), fleet, T0 + 10)

    assert turns.judged(member, wave_over("n1", node_deadline_s=600), fleet, T0 + 99_999).turn is Turn.MARKED


def test_a_lost_node_that_comes_back_and_ends_its_cycle_is_done_after_all() -> None:
    lost = MARKED.entering(Turn.HELD, T0, "did not come back").but(lost=True)

    assert turns.judged(lost, wave_over("n1"), fleet_of(view(), event(), status()), T0).turn is Turn.DONE


def test_a_cycle_from_before_a_retry_says_nothing_any_more() -> None:
    spent = MARKED.but(spent=("c1",))
    fleet = fleet_of(view(state="IDLE+DRAIN", reason=TRIGGER), event(), status(phase=Phase.HELD, now=cycle()))

    assert turns.judged(spent, wave_over("n1"), fleet, T0).turn is Turn.MARKED


def test_an_unconfirmed_mark_is_written_again_but_never_after_the_node_has_rebooted() -> None:
    intent = MARKED.but(confirmed=False)
    wave = wave_over("n1")
    same = fleet_of(view(boot_time=1002), status()).node("n1")
    rebooted = fleet_of(view(boot_time=2000), status()).node("n1")
    restarted = fleet_of(view(slurmd_start_time=2000), status()).node("n1")

    assert turns.needs_mark(intent, wave, same, Dialect())
    assert not turns.needs_mark(intent, wave, rebooted, Dialect())
    assert not turns.needs_mark(intent, wave, restarted, Dialect())
    assert not turns.needs_mark(MARKED, wave, same, Dialect())


def test_a_node_that_an_administrator_took_back_is_skipped_after_a_grace() -> None:
    fleet, wave = fleet_of(view(), status(), now=T0 + 1), wave_over("n1")
    member = turns.judged(MARKED, wave, fleet, T0 + 1)

    assert turns.judged(member, wave, fleet, T0 + 60).turn is Turn.MARKED
    assert turns.judged(member, wave, fleet, T0 + 62).turn is Turn.SKIPPED
