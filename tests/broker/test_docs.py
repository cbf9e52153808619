# SPDX-License-Identifier: Apache-2.0
"""docs/broker.md does what it says: its commands, run as they stand, under another root."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from brokers import free_port
from mosquitto import TOP, Mosquitto

from refloat_cli import operator_file
from refloat_cli.remote import BrokerWay
from refloat_contract.errors import Refused, Transient
from refloat_coordinator.config import CoordinatorSettings
from refloat_coordinator.main import ENV_PREFIX
from refloat_service import settings
from refloat_service.mqtt import Link, MqttSettings, Publication

pytestmark = pytest.mark.broker

BLOCK = re.compile(r"<!-- run: (\w+) -->\n```sh\n(.*?)```", re.DOTALL)

# What is not the same here: who runs mosquitto, and how.
STANDINS = {
    "systemctl": '#!/bin/sh\necho "$*" >>"$ROOT/systemctl.log"\n',
    "install": "#!/bin/sh\nwords=\nwhile [ $# -gt 0 ]; do\n"
    'if [ "$1" = -g ]; then shift; else words="$words $1"; fi\nshift\ndone\nexec /usr/bin/install $words\n',
    "chgrp": "#!/bin/sh\n",
    "refloat": f'#!/bin/sh\nexec {sys.executable} -c "from refloat_cli.entry import main; main()" "$@"\n',
}


@dataclass(frozen=True, slots=True)
class Machine:
    """A root for the paths of the page."""

    root: Path
    port: int
    staff_port: int

    def run(self, commands: str) -> str:
        """Run what the page says, and fail where it fails."""
        script = re.sub(r"(?<![\w.])/(etc|var)/", rf"{self.root}/\1/", commands)
        script = script.replace("8883", str(self.port)).replace("8884", str(self.staff_port))
        path = f"{self.root}/bin:{os.environ['PATH']}"
        env = {**os.environ, "ROOT": str(self.root), "PATH": path, "REFLOAT_PKI_DIR": f"{self.root}/etc/refloat/pki"}
        ended = subprocess.run(
            ["bash", "-euc", script], cwd=TOP, env=env, capture_output=True, text=True, check=False, timeout=60
        )
        assert ended.returncode == 0, f"{script}\n{ended.stdout}{ended.stderr}"
        return ended.stdout


@pytest.fixture(scope="module")
def blocks() -> dict[str, str]:
    """The commands of the page, by the name in the comment above them."""
    return dict(BLOCK.findall((TOP / "docs" / "broker.md").read_text()))


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A host to set up."""
    root = tmp_path_factory.mktemp("ctl")
    for folder in ("bin", "etc/mosquitto", "etc/refloat", "var/lib/mosquitto"):
        (root / folder).mkdir(parents=True)
    for name, text in STANDINS.items():
        (root / "bin" / name).write_text(text)
        (root / "bin" / name).chmod(0o755)
    (root / "etc/refloat/coordinator.toml").write_text('cluster = "lab"\n')
    return Machine(root, free_port(), free_port())


@pytest.fixture(scope="module")
def broker(machine: Machine, blocks: dict[str, str], mosquitto_argv: list[str]) -> Iterator[Mosquitto]:
    """The broker that the page has set up, in use."""
    machine.run(blocks["authority"])
    machine.run(blocks["broker"])
    conf = machine.root / "etc/mosquitto/mosquitto.conf"
    text = conf.read_text()
    for old, new in (("/etc/", f"{machine.root}/etc/"), ("/var/", f"{machine.root}/var/")):
        text = text.replace(f" {old}", f" {new}")
    text = text.replace("listener 8883", f"listener {machine.port} 127.0.0.1")
    conf.write_text(text.replace("listener 8884", f"listener {machine.staff_port} 127.0.0.1") + "user root\n")
    broker = Mosquitto(conf.parent, machine.port, mosquitto_argv)
    broker.start()
    yield broker
    broker.stop()


@contextlib.asynccontextmanager
async def running(link: Link) -> AsyncIterator[None]:
    """Logged in."""
    task = asyncio.create_task(link.run())
    try:
        async with asyncio.timeout(20):
            while not link.connected:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_coordinator_set_up_by_the_page_reaches_the_broker_set_up_by_the_page(
    machine: Machine, broker: Mosquitto, blocks: dict[str, str]
) -> None:
    said = machine.run(blocks["client"])
    found = settings.load(
        CoordinatorSettings, machine.root / "etc/refloat/coordinator.toml", env_prefix=ENV_PREFIX, env={}
    )

    link = Link(found.mqtt.model_copy(update={"host": "localhost"}), client_id=found.client_id)
    async with running(link):
        await link.publish(Publication("refloat/v1/lab/coordinator/status", b"{}"))

    assert "good (coordinator)" in said
    assert "restart mosquitto" in (machine.root / "systemctl.log").read_text()


async def test_a_node_set_up_the_same_way_reaches_it_too(
    machine: Machine, broker: Mosquitto, blocks: dict[str, str]
) -> None:
    (machine.root / "etc/refloat/agent.toml").write_text('cluster = "lab"\nnode = "n3"\n')
    commands = blocks["client"].replace("refloat-coordinator", "n3").replace("coordinator.toml", "agent.toml")
    machine.run(commands.replace("pki-staff", "pki").replace("8884", "8883"))
    tls = machine.root / "etc/refloat/tls"

    found = MqttSettings(
        host="localhost",
        port=machine.port,
        tls=True,
        ca_file=tls / "ca.pem",
        protocol="5",
        cert_file=tls / "client.pem",
        key_file=tls / "client.key",
    )
    link = Link(found, client_id="c")
    async with running(link):
        await link.publish(Publication("refloat/v1/lab/node/n3/status", b"{}"))
        with pytest.raises(Refused):
            await link.publish(Publication("refloat/v1/lab/node/n4/status", b"{}"))


async def test_an_operator_set_up_by_the_page_reaches_it_and_is_told_that_nobody_leads(
    machine: Machine, broker: Mosquitto, blocks: dict[str, str]
) -> None:
    said = machine.run(blocks["operator"])
    found = operator_file.load(machine.root / "etc/refloat/operator.toml")
    way = BrokerWay(found.model_copy(update={"mqtt": found.mqtt.model_copy(update={"host": "localhost"})}))

    with pytest.raises(Transient, match="is there, but no coordinator leads"):
        await way.call("status", 0.5)
    assert "good (operator)" in said
    assert "Denied" not in broker.log()


def test_every_path_of_the_shipped_configuration_is_one_that_the_page_fills(
    machine: Machine, broker: Mosquitto
) -> None:
    for line in (TOP / "packaging/mosquitto/mosquitto.conf").read_text().splitlines():
        key, _, value = line.partition(" ")
        if value.startswith("/") and not key.startswith("#"):
            assert Path(f"{machine.root}{value}").exists(), line
