# SPDX-License-Identifier: Apache-2.0
"""A stand-in for pyslurm 24.11: the part of its API that the worker uses, over the node table in FAKE_PYSLURM.

FAKE_PYSLURM is a JSON file: {"nodes": {name: {attributes}}, "fault": "", "log": path}. Faults: no_conf, import_error,
connect, timeout, auth, hang, die, noise, garbage.
"""

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

__version__ = "24.11.0"

_STORE = Path(os.environ["FAKE_PYSLURM"])
_STATES = {"DOWN", "DRAIN", "RESUME", "UNDRAIN", "FAIL", "FUTURE", "NORESP", "POWER_UP", "POWER_DOWN"}


def _store() -> dict[str, Any]:
    store: dict[str, Any] = json.loads(_STORE.read_text(encoding="utf-8"))
    return store


class PyslurmError(Exception):
    pass


class RPCError(PyslurmError):
    def __init__(self, errno: int, msg: str) -> None:
        super().__init__(msg)
        self.errno = errno
        self.msg = msg


def _fail_as_told() -> None:
    match _store().get("fault"):
        case "connect":
            raise RPCError(1800, "Unable to contact slurm controller (connect failure)")
        case "timeout":
            raise RPCError(5004, "Socket timed out on send/recv operation")
        case "auth":
            raise RPCError(1007, "Protocol authentication error")
        case "user":
            raise RPCError(2010, "Invalid user id")
        case "api":
            raise AttributeError("'Node' object has no attribute 'reason'")
        case "hang":
            time.sleep(60)
        case "die":
            sys.stderr.write("pyslurm: something broke\n")
            sys.stderr.flush()
            os._exit(3)
        case "noise":
            os.write(1, b"slurm prints on stdout as it likes\n")
        case _:
            pass


class Node(SimpleNamespace):
    def __getattribute__(self, name: str) -> Any:
        # As pyslurm, which decodes and looks up when an attribute is read.
        value = super().__getattribute__(name)
        if name == "reason" and value is not None:
            return value.encode(errors="surrogateescape").decode()
        if name == "reason_user" and isinstance(value, int):
            raise KeyError(f"getpwuid(): uid not found: {value}")
        return value

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        state = kwargs.get("state")
        if name is None and state is not None and state not in _STATES:
            raise ValueError(f"Invalid Node state: {state}")
        super().__init__(name=name, **kwargs)

    @staticmethod
    def load(name: str) -> "Node":
        _fail_as_told()
        nodes = _store()["nodes"]
        if name not in nodes:
            raise RPCError(-1, f"Node '{name}' does not exist")
        return Node(name, **nodes[name])

    def modify(self, changes: "Node") -> None:
        _fail_as_told()
        store = _store()
        if self.name not in store["nodes"]:
            raise RPCError(2018, "Invalid node name specified")
        if getattr(changes, "state", None) == "RESUME" and store["nodes"][self.name]["state"] == "IDLE":
            raise RPCError(2028, "Invalid node state specified")
        for value in vars(changes).values():
            if isinstance(value, str):
                value.encode()
        with Path(store["log"]).open("a", encoding="utf-8") as log:
            log.write(json.dumps([self.name, {k: v for k, v in vars(changes).items() if k != "name"}]) + "\n")


class Nodes(dict[str, Node]):
    @staticmethod
    def load() -> "Nodes":
        _fail_as_told()
        return Nodes({name: Node(name, **node) for name, node in _store()["nodes"].items()})


match _store().get("fault"):
    case "no_conf":
        # libslurm does this: no exception, the interpreter is gone.
        sys.stderr.write("python: fatal: Unable to process configuration file\n")
        sys.stderr.flush()
        os._exit(1)
    case "import_error":
        raise ImportError("libslurm.so.42: cannot open shared object file")
    case _:
        pass
