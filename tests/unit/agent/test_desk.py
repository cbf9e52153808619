# SPDX-License-Identifier: Apache-2.0
import asyncio
from pathlib import Path

import pytest

from refloat_agent.config import AgentSettings
from refloat_agent.daemon import Agent
from refloat_agent.status import Desk
from refloat_contract.errors import BadMessage, Refused
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
