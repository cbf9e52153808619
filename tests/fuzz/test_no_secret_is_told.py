# SPDX-License-Identifier: Apache-2.0
"""A secret that a daemon was given stands in nothing that it tells, starts or complains about."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from brokers import free_port, running_broker
from structlog.testing import capture_logs

from refloat_agent.config import AgentSettings
from refloat_agent.daemon import Agent
from refloat_agent.simulated import SimulatedMachine
from refloat_contract.errors import Misconfigured, RefloatError
from refloat_coordinator.config import CoordinatorSettings
from refloat_coordinator.daemon import Coordinator
from refloat_service import control, settings
from refloat_slurm.simulated import SimulatedGateway, SimulatedSlurmctld

SECRET = "correct-horse-battery"  # noqa: S105 - it is what must not be seen


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


async def answers(socket: Path, *commands: str) -> str:
    """All that the daemon tells."""
    told: list[Any] = []
    async with asyncio.timeout(10):
        while not socket.exists():  # noqa: ASYNC110, ASYNC240 - a file has no event
            await asyncio.sleep(0.01)
    for command in commands:
        try:
            told.append(await control.call(socket, command, recipe="reboot"))
        except RefloatError as error:
            told.append(str(error))
    return json.dumps(told, default=str)


def everything_of_this_process() -> str:
    """Its arguments and its environment, as others on the machine see them."""
    return "".join(Path(f"/proc/self/{name}").read_bytes().decode(errors="replace") for name in ("cmdline", "environ"))


def booted(tree: Path, slurmctld: SimulatedSlurmctld) -> SimulatedMachine:
    """A node that is up."""
    machine = SimulatedMachine("n1", tree, slurmctld, ())
    machine.start(first=True)
    return machine


async def test_no_secret_is_told_by_an_agent(tmp_path: Path, secret: Path) -> None:
    slurmctld = SimulatedSlurmctld(["n1"], clock=time.time)
    slurmctld.register("n1", time.time() - 60)
    async with running_broker(anonymous=False) as broker:
        mqtt = {"host": "127.0.0.1", "port": broker.port, "username": "n1", "password_file": secret}
        wanted = AgentSettings.model_validate(
            {"cluster": "c", "node": "n1", "state_dir": tmp_path / "s", "socket": tmp_path / "a.sock", "mqtt": mqtt}
        )
        machine = await asyncio.to_thread(booted, tmp_path / "tree", slurmctld)
        with capture_logs() as logs:
            agent = await asyncio.to_thread(Agent, wanted, SimulatedGateway(slurmctld), machine=machine.machine())
            running = asyncio.create_task(agent.run())
            told = await answers(wanted.socket, "status", "why", "plan", "checks", "profile", "nonsense")
            async with asyncio.timeout(10):
                while not agent.bus.connected:  # noqa: ASYNC110 - it has no event
                    await asyncio.sleep(0.01)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        published = b"".join(payload for _, payload in broker.published)

    seen = f"{told}{logs}{wanted!r}{wanted.model_dump_json()}{everything_of_this_process()}{published!r}"
    assert '"node": "n1"' in told
    assert SECRET not in seen


async def test_no_secret_is_told_by_a_coordinator(tmp_path: Path, secret: Path) -> None:
    influx = {"kind": "v2", "url": "http://127.0.0.1:1", "org": "o", "bucket": "b", "token_file": secret}
    mqtt = {"host": "127.0.0.1", "port": free_port(), "username": "c", "password_file": secret}
    wanted = CoordinatorSettings.model_validate(
        {
            "state_dir": tmp_path / "s",
            "socket": tmp_path / "c.sock",
            "mqtt": mqtt,
            "influx": influx,
            "http": {"listen": ""},
        }
    )
    gateway = SimulatedGateway(SimulatedSlurmctld(["n1"], clock=time.time))
    with capture_logs() as logs:
        coordinator = Coordinator(wanted, gateway=gateway)
        running = asyncio.create_task(coordinator.run())
        async with asyncio.timeout(20):
            await coordinator.ready.wait()
        told = await answers(wanted.socket, "status", "why", "events", "wave_list", "nonsense")
        assert "unknown command" in told
        coordinator.stop()
        await asyncio.gather(running, return_exceptions=True)

    assert SECRET not in f"{told}{logs}{wanted!r}{everything_of_this_process()}"


@pytest.mark.parametrize("line", [f'password = "{SECRET}"', f'password_file = ["{SECRET}"]', f'token = "{SECRET}"'])
def test_a_secret_in_the_wrong_place_is_complained_about_without_it(tmp_path: Path, line: str) -> None:
    (tmp_path / "c.toml").write_text(f"[mqtt]\n{line}\n")

    with pytest.raises(Misconfigured) as refused:
        settings.load(CoordinatorSettings, tmp_path / "c.toml", env_prefix="X", env={})

    assert SECRET not in str(refused.value)
