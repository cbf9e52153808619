# SPDX-License-Identifier: Apache-2.0
"""The lab's own network: a bridge in the controller's namespace, one veth pair per node, nothing outside."""

from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from reflab.command import run
from reflab.errors import Failed
from reflab.places import CONTROLLER

PREFIX = 16
CONTROLLER_ADDRESS = IPv4Address("10.77.0.1")
NODES_FROM = IPv4Address("10.77.1.0")
BRIDGE = "br0"


@dataclass(frozen=True, slots=True)
class Network:
    """The namespaces of one lab; addresses are the same in every lab, as no lab sees another."""

    lab_key: str

    def namespace(self, node: str) -> str:
        """Name the network namespace of a container."""
        return f"refloat-lab-{self.lab_key}-{node}"

    def path(self, node: str) -> Path:
        """Where that namespace is kept alive."""
        return Path("/run/netns") / self.namespace(node)

    def create(self, nodes: list[str]) -> None:
        """Make the bridge and one cabled namespace per node."""
        ctl = self.namespace(CONTROLLER)
        run(["ip", "netns", "add", ctl])
        self._ip(CONTROLLER, "link", "set", "lo", "up")
        self._ip(CONTROLLER, "link", "add", BRIDGE, "type", "bridge")
        self._ip(CONTROLLER, "address", "add", f"{CONTROLLER_ADDRESS}/{PREFIX}", "dev", BRIDGE)
        self._ip(CONTROLLER, "link", "set", BRIDGE, "up")
        for node in nodes:
            self._cable(node)

    def unplug(self, node: str) -> None:
        """Pull the node's cable at the switch: it loses its carrier."""
        self._ip(CONTROLLER, "link", "set", port(node), "down")

    def plug(self, node: str) -> None:
        """Put the cable back."""
        self._ip(CONTROLLER, "link", "set", port(node), "up")

    def remove(self) -> None:
        """Delete every namespace of this lab, also those of a crashed run; veths go with them."""
        for path in Path("/run/netns").glob(self.namespace("*")):
            with suppress(Failed):
                run(["ip", "netns", "delete", path.name])

    def _cable(self, node: str) -> None:
        name = self.namespace(node)
        run(["ip", "netns", "add", name])
        self._ip(CONTROLLER, "link", "add", port(node), "type", "veth", "peer", "name", "eth0", "netns", name)
        self._ip(CONTROLLER, "link", "set", port(node), "master", BRIDGE, "up")
        self._ip(node, "link", "set", "lo", "up")
        self._ip(node, "address", "add", f"{address(node)}/{PREFIX}", "dev", "eth0")
        self._ip(node, "link", "set", "eth0", "up")
        self._ip(node, "route", "add", "default", "via", str(CONTROLLER_ADDRESS))

    def _ip(self, node: str, *words: str) -> None:
        run(["ip", "-n", self.namespace(node), *words])


def address(node: str) -> IPv4Address:
    """Return the fixed address of a container."""
    return CONTROLLER_ADDRESS if node == CONTROLLER else NODES_FROM + int(node.removeprefix("n"))


def port(node: str) -> str:
    """Name the bridge port of a node."""
    return f"v{node}"


def hosts_file(nodes: list[str]) -> str:
    """Return the /etc/hosts of all containers."""
    lines = ["127.0.0.1 localhost", *(f"{address(name)} {name}" for name in [CONTROLLER, *nodes])]
    return "\n".join(lines) + "\n"
