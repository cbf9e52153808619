# SPDX-License-Identifier: Apache-2.0
import asyncio
from pathlib import Path

import pytest

from refloat_agent.config import AgentSettings
from refloat_agent.daemon import Agent
from refloat_agent.desk import Desk
from refloat_agent.observation import GateFacts
from refloat_contract.errors import BadMessage, Refused
from refloat_slurm.gateway import Change
from refloat_slurm.simulated import SimulatedGateway, SimulatedSlurmctld


def agent(tmp_path: Path) -> Agent:
    (tmp_path / "there").touch()
    there = {"name": "there", "type": "file", "path": str(tmp_path / "there"), "sticky": True}
    gate = {"name": "gate", "type": "file", "path": "/no/such", "when": "resume"}
    chosen = {"node": "n1", "state_dir": tmp_path, "check": (there, gate)}
    return Agent(AgentSettings.model_validate(chosen), SimulatedGateway(SimulatedSlurmctld(["n1"], now=1000)))


async def test_a_profile_is_told_in_short_and_what_is_wrong_in_full(tmp_path: Path) -> None:
    made = await asyncio.to_thread(agent, tmp_path)

    prolog = await Desk(made).profile({"profile": "prolog"})
    boot = await Desk(made).profile({"profile": "boot"})
    await made.probes.aclose()

    assert prolog == {"node": "n1", "good": 1, "bad": []}
    assert (boot["good"], [each["check"] for each in boot["bad"]]) == (1, ["gate"])
    with pytest.raises(BadMessage, match="there are: prolog, epilog, boot, image"):
        await Desk(made).profile({"profile": "prologue"})


async def test_only_a_check_of_this_node_is_cleared_and_whoever_asks_is_named(tmp_path: Path) -> None:
    made = await asyncio.to_thread(agent, tmp_path)
    desk = Desk(made)
    (tmp_path / "there").unlink()
    await desk.checks({"fresh": True})
    (tmp_path / "there").touch()
    await desk.checks({"fresh": True})

    stuck = made.health.facts().failing
    told = await desk.check_clear({"node": "n1", "check": "there", "by": "alice\nroot"})
    await desk.checks({"fresh": True})
    await made.probes.aclose()

    assert [failure.check for failure in stuck] == ["there"]
    assert made.health.facts().failing == ()
    assert told == {"told": "there: cleared by alice root; it is looked at anew"}
    with pytest.raises(Refused, match="this is the agent of n1"):
        await desk.check_clear({"node": "n2", "check": "there"})


async def test_a_check_that_is_off_is_shown_as_such(tmp_path: Path) -> None:
    made = await asyncio.to_thread(agent, tmp_path)
    desk = Desk(made)

    await desk.check_switch({"node": "n1", "check": "there", "by": "alice", "on": False})
    checks = await desk.checks({"fresh": True})
    await made.probes.aclose()

    assert checks[0] == {"check": "there", "status": "UNKNOWN", "message": "switched off by alice", "off": True}


async def test_why_names_the_job_that_is_waited_for_and_what_comes_next(tmp_path: Path) -> None:
    slurm = SimulatedSlurmctld(["n1"], now=1000)
    slurm.register("n1", 900.0)
    slurm.submit(600.0)
    chosen = {"node": "n1", "state_dir": tmp_path, "mode": "act", "socket": tmp_path / "agent.sock"}
    made = await asyncio.to_thread(Agent, AgentSettings.model_validate(chosen), SimulatedGateway(slurm))
    slurm.update("n1", Change.DRAIN, "reboot", "alice")
    running = asyncio.create_task(made.run())
    async with asyncio.timeout(10):
        while made.decision is None or made.decision.state.cycle is None or not made.loop or not made.loop.told:
            made._wake()
            await asyncio.sleep(0.01)
        answer = await Desk(made).why({})
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert "(job 1 of alice until ~" in answer["sentence"]
    assert answer["lines"][0] == "phase DRAINING"
    assert "next: stop, unmount, reboot, mount, start, check, resume" in answer["lines"]
    assert "drain_seen: alice asked for reboot: reboot" in answer["lines"][-1]


async def test_the_gate_is_told_what_is_missing_and_past_its_deadline_the_loop_is_woken(tmp_path: Path) -> None:
    gone = {"name": "scratch", "path": str(tmp_path / "scratch")}
    chosen = {"node": "n1", "state_dir": tmp_path, "mode": "act", "gate_deadline_s": 10, "storage": (gone,)}
    settings = AgentSettings.model_validate(chosen)
    made = await asyncio.to_thread(Agent, settings, SimulatedGateway(SimulatedSlurmctld(["n1"], now=1000)))
    desk = Desk(made)

    early = await desk.gate({"waited_s": 9.0})
    before = made.gatekeeper.facts()
    late = await desk.gate({"waited_s": 10.0})
    await made.probes.aclose()

    assert (early["opens"], late["opens"]) == (False, False)
    assert early["why"] == f"waiting: nothing is mounted on {tmp_path}/scratch"
    assert (before, made.gatekeeper.facts()) == (GateFacts(holds=True), GateFacts(holds=True, overdue=True))
    with pytest.raises(BadMessage):
        await desk.gate({})


async def test_the_gate_waits_for_the_boots_checks_and_has_them_looked_at(tmp_path: Path) -> None:
    made = await asyncio.to_thread(agent, tmp_path)
    desk = Desk(made)
    waits = [failure.check for failure in made.health.facts().boot_waits]
    await made.health.look(["there"])

    assert waits == ["there", "gate"]
    assert [failure.check for failure in made.health.facts().boot_waits] == ["gate"]
    assert (await desk.gate({"waited_s": 0}))["opens"], "it only observes"
    await made.probes.aclose()


async def test_an_agent_does_not_act_while_a_script_that_services_the_node_is_at_work(tmp_path: Path) -> None:
    slurm = SimulatedSlurmctld(["n1"], now=1000)
    slurm.register("n1", 900.0)
    slurm.update("n1", Change.DRAIN, "reboot", "alice")
    slurm.submit(600.0)
    chosen = {"node": "n1", "state_dir": tmp_path, "mode": "act", "socket": tmp_path / "agent.sock"}
    made = await asyncio.to_thread(Agent, AgentSettings.model_validate(chosen), SimulatedGateway(slurm))
    script = await asyncio.create_subprocess_exec(
        "flock",
        "--nonblock",
        "--no-fork",
        tmp_path / "agent.acting",
        "sh",
        "-c",
        "echo; read word",
        stdin=-1,
        stdout=-1,
    )
    assert script.stdin is not None
    assert script.stdout is not None
    await script.stdout.readline()

    running = asyncio.create_task(made.run())
    async with asyncio.timeout(20):
        while made.decision is None or not made.decision.why.startswith("observing only"):
            made._wake()
            await asyncio.sleep(0.01)
        barred = made.decision
        script.stdin.close()
        await script.wait()
        while made.decision.state.cycle is None:
            made._wake()
            await asyncio.sleep(0.01)
    second = await asyncio.create_subprocess_exec("flock", "--nonblock", tmp_path / "agent.acting", "true")
    refused = await second.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert barred.state.cycle is None
    assert "another process holds" in barred.why
    assert refused == 1
