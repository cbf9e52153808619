# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace
from pathlib import Path

import pytest

from refloat_agent import machine
from refloat_agent.journal import Journal
from refloat_agent.observation import Observation
from refloat_agent.recipes import Part, Recipe, short_form
from refloat_agent.state import Cycle, Policy, State, initial
from refloat_contract.errors import Transient
from refloat_contract.messages import Event
from refloat_contract.words import EventKind, Phase

BOOT, OTHER = "aaaaaaaa-0000-4000-8000-000000000000", "bbbbbbbb-0000-4000-8000-000000000000"
EVENT = Event(id="e1", node="n1", at_ns=5, kind=EventKind.HOLD, title="Node held", message='a "quoted" ü\n')
CYCLE = Cycle(
    "c1", "reboot", "reboot", Phase.HELD, 12.5, 1.8e9, image="i", prior='bad "dimm"', hold="why", paused_s=3.0
)
STATE = replace(initial(BOOT, "abcdef"), cycle=CYCLE, seq=7, last_ns=5, outbox=(EVENT,), health_permit="health-1")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.json", "n1")


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _but_its_nonce(state: State) -> State:
    return replace(state, nonce="")


async def test_what_was_saved_is_loaded(journal: Journal) -> None:
    await journal.save(STATE)

    assert _but_its_nonce(await journal.load(BOOT)) == _but_its_nonce(STATE)


async def test_each_life_of_the_agent_names_its_events_anew(journal: Journal) -> None:
    await journal.save(STATE)

    names = {(await journal.load(BOOT)).nonce for _ in range(5)}

    assert len(names | {STATE.nonce}) == 6


async def test_without_a_journal_nothing_is_remembered_and_nothing_distrusted(journal: Journal) -> None:
    state = await journal.load(BOOT)

    assert (state.cycle, state.distrust, state.boot_id) == (None, False, BOOT)
    assert journal.is_new(state)


async def test_the_cycle_of_another_boot_is_history_but_its_untold_events_are_kept(journal: Journal) -> None:
    await journal.save(STATE)

    state = await journal.load(OTHER)

    assert (state.cycle, state.boot_id, state.outbox, state.last_ns) == (None, OTHER, (EVENT,), 5)
    assert journal.is_new(state)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 4096,
        b"not json",
        b'{"version": 1, "node": "n1"}',
        b'{"version": 3, "node": "n1", "state": {"boot_id": "x", "nonce": "y"}}',
        b'{"version": 1, "node": "n2", "state": {"boot_id": "x", "nonce": "y"}}',
    ],
    ids=["empty", "zeros", "no json", "no state", "version 3", "another node"],
)
async def test_a_journal_that_cannot_be_read_is_set_aside_and_distrusted(journal: Journal, data: bytes) -> None:
    journal.path.write_bytes(data)

    state = await journal.load(BOOT)

    assert (state.distrust, state.cycle) == (True, None)
    assert not journal.path.exists()
    (aside,) = journal.path.parent.iterdir()
    assert aside.read_bytes() == data


async def test_a_save_that_cannot_be_done_leaves_the_old_state(journal: Journal, tmp_path: Path) -> None:
    await journal.save(STATE)
    blocked = Journal(journal.path / "below" / "journal.json", "n1")

    with pytest.raises(Transient):
        await blocked.save(replace(STATE, seq=8))

    assert (await journal.load(BOOT)).seq == 7
    assert _names(tmp_path) == ["journal.json"]


@pytest.mark.parametrize(
    ("phase", "ran", "step", "part"),
    [("UNMOUNTING", False, 1, Part.MAIN), ("RUNNING", True, 2, Part.POST), ("REBOOTING", True, 3, Part.MAIN)],
)
async def test_the_cycle_in_a_journal_of_the_release_before_goes_on_where_it_was(
    journal: Journal, phase: str, *, ran: bool, step: int, part: Part
) -> None:
    cycle = {"id": "c1", "recipe": "flash", "trigger": "flash", "phase": phase, "entered_s": 990, "started_at": 1}
    state = {"boot_id": BOOT, "nonce": "y", "cycle": {**cycle, "ran": ran}}
    journal.path.write_text(json.dumps({"version": 1, "node": "n1", "state": state}))
    policy = Policy("n1", {"flash": Recipe("flash", short_form(reboot=True, run=(("x",),)))})

    loaded = await journal.load(BOOT)
    after = machine.decide(loaded, Observation(1000.0, 1, BOOT), policy).state.cycle

    assert loaded.cycle is not None
    assert (loaded.cycle.part, loaded.distrust) == (part, False)
    assert after is not None
    assert (after.step, after.phase) == (step, phase)
