# SPDX-License-Identifier: Apache-2.0
import asyncio
from pathlib import Path

import pytest

from refloat_agent.config import AgentSettings
from refloat_agent.daemon import Agent
from refloat_agent.desk import Desk
from refloat_contract.errors import Misconfigured
from refloat_slurm.simulated import SimulatedGateway, SimulatedSlurmctld

TOML_CHECK = {"name": "tmp", "type": "file", "path": "/tmp"}


def agent(tmp_path: Path, text: str, **settings: object) -> Agent:
    (tmp_path / "nhc.conf").write_text(text)
    chosen = {"node": "n1", "state_dir": tmp_path, "nhc_conf": tmp_path / "nhc.conf", **settings}
    return Agent(AgentSettings.model_validate(chosen), SimulatedGateway(SimulatedSlurmctld(["n1"], now=1000)))


async def test_the_lines_of_an_nhc_conf_are_checks_of_the_running_agent(tmp_path: Path) -> None:
    made = await asyncio.to_thread(
        agent, tmp_path, "* || export A=1\n* || check_hw_eth nosuch\n* || check_hw_eth lo\n", check=(TOML_CHECK,)
    )

    checks = await Desk(made).checks({"fresh": True})
    verdict = made.health.facts()
    await made.probes.aclose()

    assert {check["check"] for check in checks} == {"tmp", "check_hw_eth:nosuch", "check_hw_eth:lo"}
    assert verdict.failing[0].check == "check_hw_eth:nosuch"
    assert verdict.failing[0].message == "check_hw_eth:  Ethernet device nosuch not detected."


async def test_the_nhc_command_gets_the_last_pass_and_whether_the_agent_acts(tmp_path: Path) -> None:
    made = await asyncio.to_thread(agent, tmp_path, "* || check_hw_eth nosuch\n", mode="act")

    first = await Desk(made).nhc({})
    again = await Desk(made).nhc({})
    await made.probes.aclose()

    assert (first["acts"], first["conf"], first["findings"][0]["rc"]) == (True, str(tmp_path / "nhc.conf"), 1)
    assert first["findings"] == again["findings"]
    assert made.health.passes == 1


def test_drains_of_nhc_are_adopted_with_its_configuration(tmp_path: Path) -> None:
    assert "NHC:" in agent(tmp_path, "").settings.dialect().adopted_prefixes
    assert "NHC:" not in AgentSettings(node="n1").dialect().adopted_prefixes


def test_a_check_named_like_a_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="line-1"):
        agent(tmp_path, "* || true\n", check=({**TOML_CHECK, "name": "line-1"},))
