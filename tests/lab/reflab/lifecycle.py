# SPDX-License-Identifier: Apache-2.0
"""Bringing a planned lab into being, and removing every trace of one, also of a crashed one."""

import json
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from reflab import cgroup, image, slurm, trees
from reflab.command import say
from reflab.network import Network, hosts_file
from reflab.node import Node
from reflab.places import CONTROLLER, LAB_FOLDER, Places

STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a lab is brought up with; the same plan on a healthy lab is nothing to do."""

    names: list[str]
    layers: list[str]
    slurm_conf: str
    controller_units: list[str]
    node_units: list[str]


def start(places: Places, plan: Plan) -> None:
    """Lay out the run folder and the network, and start all supervisors."""
    tree = Path(plan.layers[-1])
    trees.copy(LAB_FOLDER / "rootfs", places.furniture)
    places.files.mkdir()
    slurm.configure(places.slurm, image.version_of_slurm(tree), len(plan.names), plan.slurm_conf)
    (places.run / "hosts").write_text(hosts_file(plan.names))
    Network(places.key).create(plan.names)
    layers = [Path(layer) for layer in plan.layers]
    for name in (CONTROLLER, *plan.names):
        node = Node(places, name)
        node.set_up(layers, plan.controller_units if name == CONTROLLER else plan.node_units)
        node.start()


def record(places: Places, plan: Plan) -> None:
    """Note that the lab is up as planned; a lab without this note is the rest of a crash."""
    places.plan.write_text(json.dumps(asdict(plan)))


def recorded(places: Places) -> Plan | None:
    """Return what the lab was brought up with, or None if it is not up."""
    try:
        return Plan(**json.loads(places.plan.read_text()))
    except (FileNotFoundError, TypeError, ValueError):
        return None


def remove(places: Places) -> None:
    """End what the lab started, and remove its network, cgroups and run folder."""
    stop(places)
    Network(places.key).remove()
    shutil.rmtree(places.run, ignore_errors=True)


def stop(places: Places) -> None:
    """End every process of the lab: gently by its supervisors, the rest by its cgroups, and no others."""
    above = cgroup.lab_cgroup(places.key)
    nodes = [Node(places, folder.name) for folder in (places.run / "nodes").glob("*/")]
    until = time.monotonic() + STOP_TIMEOUT_S
    while any(node.cgroup.is_populated() for node in nodes) and time.monotonic() < until:
        for node in nodes:
            node.stop()
        time.sleep(0.05)
    for path in above.glob("*/"):
        cgroup.Cgroup(path).remove()
    cgroup.prune(above)
    with suppress(OSError):
        above.parent.rmdir()


def keep_logs(places: Places) -> None:
    """Keep the logs of a lab that did not come up, and say where."""
    stop(places)
    nodes = places.run / "nodes"
    if nodes.exists():
        forget_logs(places)
        shutil.copytree(nodes, places.remains, ignore=shutil.ignore_patterns("disk", "root"))
        say(f"up failed; logs are kept in {places.remains}")


def forget_logs(places: Places) -> None:
    """Remove what `keep_logs` kept."""
    shutil.rmtree(places.remains, ignore_errors=True)
    with suppress(OSError):
        places.remains.parent.rmdir()
