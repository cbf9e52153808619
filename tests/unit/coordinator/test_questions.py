# SPDX-License-Identifier: Apache-2.0
import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from unit.coordinator.cluster import Agent, Cluster
from unit.coordinator.world import T0, FakeClock, eventually

from refloat_contract.errors import Transient
from refloat_coordinator import questions
from refloat_coordinator.questions import Questions, ask_blocker, free_at
from refloat_coordinator.waves import blocker
from refloat_coordinator.waves.blocker import AskBlocker, BlockerAnswer
from refloat_coordinator.waves.decisions import AskJobs
from refloat_slurm.gateway import Job


def script(folder: Path, body: str) -> str:
    path = folder / "may-i"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def ask(command: str) -> AskBlocker:
    return AskBlocker("w1", command, ("n1", "n2"), "reboot", "compute-2")


async def test_a_blocker_gets_the_nodes_as_arguments_and_all_of_it_as_json(tmp_path: Path) -> None:
    command = script(tmp_path, f'printf "%s\\n" "$@" > {tmp_path}/argv; cat > {tmp_path}/stdin')
    answer = await ask_blocker(ask(f"{command} --quick 'two words; rm -rf $HOME'"), FakeClock())

    assert answer == BlockerAnswer(frozenset({"n1", "n2"}), T0)
    assert (tmp_path / "argv").read_text().splitlines() == ["--quick", "two words; rm -rf $HOME", "n1", "n2"]
    assert json.loads((tmp_path / "stdin").read_text()) == {
        "wave": "w1",
        "nodes": ["n1", "n2"],
        "recipe": "reboot",
        "image": "compute-2",
    }


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("echo; echo backup is running; echo more; exit 1", "blocked by may-i: backup is running"),
        ("exit 1", "blocked by may-i: it does not say why"),
        ("echo oops >&2; exit 3", "blocked: may-i ended with status 3 (oops), which says nothing"),
        ("kill -9 $$", "blocked: may-i ended with status -9, which says nothing"),
    ],
)
async def test_only_an_exit_status_of_0_lets_nodes_go(tmp_path: Path, body: str, why: str) -> None:
    answer = await ask_blocker(ask(script(tmp_path, body)), FakeClock())

    assert (answer.is_free, answer.why) == (False, why)


async def test_a_blocker_that_does_not_end_or_is_not_there_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "BLOCKER_DEADLINE_S", 0.2)
    hangs = await ask_blocker(ask(script(tmp_path, "exec sleep 60")), FakeClock())
    missing = await ask_blocker(ask("/nonexistent/may-i"), FakeClock())

    assert "blocked: may-i gave no answer:" in hangs.why
    assert "did not end within 0.2 s" in hangs.why
    assert "blocked: may-i gave no answer:" in missing.why


@pytest.mark.parametrize("command", ["", "  ", "'unclosed"])
def test_what_is_no_command_is_refused(command: str) -> None:
    with pytest.raises(ValueError, match="blocker"):
        blocker.split(command)


def test_the_last_job_of_a_node_says_when_it_is_free() -> None:
    jobs = [
        Job("1", "a", "RUNNING", 100, "n[1-2]"),
        Job("2", "b", "RUNNING", 300, "n2"),
        Job("3", "c", "RUNNING", 0, "n3,n4"),
        Job("4", "d", "COMPLETING", 50, ""),
        Job("5", "e", "RUNNING", 50, "n[5-"),
    ]

    assert free_at(jobs) == {"n1": 100, "n2": 300, "n3": float("inf"), "n4": float("inf")}


class Ears:
    def __init__(self) -> None:
        self.blockers: list[tuple[str, BlockerAnswer]] = []
        self.jobs: list[Mapping[str, float]] = []

    def questions(self, cluster: Cluster) -> Questions:
        return Questions(cluster, FakeClock(), lambda wave, answer: self.blockers.append((wave, answer)), self._jobs)

    def _jobs(self, found: Mapping[str, float], at: float) -> None:
        assert at == T0
        self.jobs.append(found)


async def test_a_question_is_asked_once_at_a_time(tmp_path: Path) -> None:
    ears, cluster = Ears(), Cluster({"n1": Agent("n1")})
    cluster.run_job("7", "n1", 500)
    asking = ears.questions(cluster)
    command = script(tmp_path, f"echo x >> {tmp_path}/count")
    for _ in range(3):
        asking.put(AskJobs())
        asking.put(ask(command))
    task = asyncio.create_task(asking.run())
    await eventually(lambda: bool(ears.blockers))
    task.cancel()

    assert (tmp_path / "count").read_text() == "x\n"
    assert (len(ears.blockers), ears.jobs) == (1, [{"n1": 500.0}])


async def test_a_slurm_that_does_not_answer_is_an_answer_too() -> None:
    class Silent(Cluster):
        async def all_jobs(self) -> tuple[Job, ...]:
            raise Transient("timed out")

    ears = Ears()
    await ears.questions(Silent({})).ask(AskJobs())

    assert ears.jobs == [{}]
