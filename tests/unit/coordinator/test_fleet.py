# SPDX-License-Identifier: Apache-2.0
from unit.coordinator.world import T0, WAVE, ended, event, fleet_of, status, view, will

from refloat_contract.words import EventKind, Outcome
from refloat_coordinator import fleet as fleets
from refloat_coordinator.fleet import Done, Fleet, Heard, Read, Told, Unread


def test_the_last_report_is_kept_when_the_will_arrives() -> None:
    fleet = fleets.fold(fleet_of(status()), [Heard(will())], T0 + 9)

    node = fleet.node("n1")
    assert not node.online
    assert node.since == T0 + 9
    assert node.report is not None


def test_since_changes_only_when_online_does() -> None:
    fleet = fleets.fold(fleet_of(status()), [Heard(status(at=2.0))], T0 + 9)

    assert fleet.node("n1").since == T0


def test_an_event_and_a_report_of_the_same_cycle_are_one_and_the_boot_is_kept() -> None:
    fleet = fleet_of(event(), status(last=ended()))
    again = fleets.fold(fleet, [Told(event()), Heard(status(last=ended()))], T0)

    assert fleet.node("n1").done == {WAVE: Done("c1", "boot-b")}
    assert again.node("n1").done == fleet.node("n1").done


def test_only_cycles_that_ended_well_within_a_wave_count_as_done() -> None:
    fleet = fleet_of(
        event(wave=""), event("e2", kind=EventKind.REBOOT), status(last=ended(Outcome.CANCELLED)), status("n2")
    )

    assert fleet.node("n1").done == {}


def test_an_old_wave_is_forgotten_in_the_end() -> None:
    fleet = fleet_of(*(event(f"e{i}", wave=f"w{i}") for i in range(20)))

    assert len(fleet.node("n1").done) == 8
    assert "w19" in fleet.node("n1").done


def test_a_node_that_leaves_slurms_table_is_no_longer_known() -> None:
    fleet = fleet_of(view("n1"), view("n2"))
    after = fleets.fold(fleet, [Read(T0 + 5, (view("n2", known=False),))], T0 + 5)

    assert after.known == {"n1"}
    assert after.outages == {"n2": "unknown to Slurm"}


def test_an_outage_ends_when_slurm_says_so() -> None:
    fleet = fleet_of(view("n1", "DOWN"))
    after = fleets.fold(fleet, [Read(T0 + 5, (view("n1"),))], T0 + 5)

    assert fleet.outages == {"n1": "down"}
    assert after.outages == {}


def test_slurm_that_does_not_answer_leaves_what_is_known_in_place() -> None:
    fleet = fleets.fold(fleet_of(view("n1", "DOWN")), [Unread("connect failure")], T0 + 5)

    assert not fleet.slurm_ok
    assert fleet.known == {"n1"}
    assert fleet.outages == {"n1": "down"}
    assert fleets.fold(fleet, [Read(T0 + 9, ())], T0 + 9).slurm_ok


def test_before_the_first_read_slurm_is_not_ok() -> None:
    assert not Fleet().slurm_ok


def test_a_node_that_power_saving_has_switched_off_is_neither_out_nor_part_of_what_could_serve() -> None:
    off = view("n2", "IDLE+CLOUD+POWERED_DOWN")
    fleet = fleet_of(view("n1"), off)
    back = fleets.fold(fleet, [Read(T0 + 1, (view("n2"),))], T0 + 1)

    assert not fleet.outages
    assert fleet.known == {"n1", "n2"}
    assert fleet.serving == {"n1"}
    assert back.serving == {"n1", "n2"}


def test_a_fleet_says_which_nodes_were_told_of_since_another() -> None:
    first = fleets.fold(Fleet(), [Read(T0, (view("n1"), view("n2")))], T0)
    second = fleets.fold(first, [Heard(status("n1"))], T0)
    third = fleets.fold(second, [Told(event(node="n3"))], T0)

    assert third.told_since(third.stamp) == set()
    assert third.told_since(second.stamp) == {"n3"}
    assert third.told_since(first.stamp) == {"n1", "n3"}
    assert second.told_since(third.stamp) is None
    assert fleets.fold(first, [], T0).told_since(second.stamp) is None
    for _ in range(100):
        third = fleets.fold(third, [], T0)
    assert third.told_since(first.stamp) is None
