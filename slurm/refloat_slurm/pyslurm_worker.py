# SPDX-License-Identifier: Apache-2.0
"""The helper process that talks pyslurm: one JSON request per line on stdin, one JSON answer per line on stdout.

It is a process of its own because every pyslurm call holds the GIL until slurmctld answers (10 s when it hangs), and
because `import pyslurm` ends the interpreter when slurm.conf cannot be read. It ends when stdin does.

    {"op": "node", "name": "n1"}                                          {"node": {"name": "n1", "state": …}}
    {"op": "nodes"}                                                       {"nodes": [{…}, …]}
    {"op": "update", "name": "n1", "state": "DRAIN", "reason": "x"}       {}
    any, when pyslurm raised                                              {"error": "text", "errno": 1800}

The first line it writes is a greeting: ``{"pyslurm": "24.11.0"}``, or an error when there is no pyslurm that fits.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final, TextIO

_SLURM_SAYS_S: Final = 5.0


def main() -> int:
    """Greet, then answer until stdin ends."""
    answers = _own_stdout()
    try:
        # Here, not above: it may take a minute, or end this process.
        import pyslurm  # noqa: PLC0415 # pyright: ignore[reportMissingImports] - optional
    except ImportError as error:
        _say(answers, {"error": f"cannot import pyslurm: {error}"})
        return 1
    version = str(getattr(pyslurm, "__version__", "of unknown version"))
    if why := misfit(version, _slurm_says()):
        _say(answers, {"error": why})
        return 1
    _say(answers, {"pyslurm": version})
    for line in sys.stdin:
        _say(answers, _answer(pyslurm, json.loads(line)))
    return 0


def misfit(pyslurm: str, slurm: str) -> str:
    """Say why this pyslurm must not be asked: it was compiled for another release of Slurm; empty where none is known.

    After an update of Slurm alone it may still be imported, and then reads another release's records by its own.
    """
    compiled_for, here = _release(pyslurm), _release(slurm)
    if not compiled_for or not here or compiled_for == here:
        return ""
    return f"pyslurm {pyslurm} is for another release than this Slurm's ({slurm})"


def _release(text: str) -> tuple[int, ...]:
    # "slurm 24.05.3", "slurm-wlm 22.05.8" and pyslurm's "24.5.0": the first two numbers are the release.
    found = re.search(r"(\d+)\.(\d+)", text)
    return tuple(int(number) for number in found.groups()) if found else ()


def _slurm_says() -> str:
    try:
        done = subprocess.run(
            ["scontrol", "--version"],  # noqa: S607 - as the gateway finds it
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SLURM_SAYS_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _own_stdout() -> TextIO:
    # libslurm prints where it likes: its stdout becomes our stderr, and the answers get a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _say(answers: TextIO, message: Mapping[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _answer(pyslurm: ModuleType, request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return _perform(pyslurm, request)
    except pyslurm.PyslurmError as error:
        return {"error": str(getattr(error, "msg", None) or error), "errno": getattr(error, "errno", None)}
    except (AttributeError, TypeError, ValueError) as error:
        # This pyslurm has another API than the one we know, or refuses a word; either way nothing was done.
        return {"error": f"{type(error).__name__} in pyslurm: {error}"}


def _perform(pyslurm: ModuleType, request: Mapping[str, Any]) -> dict[str, Any]:
    match request["op"]:
        case "node":
            return {"node": _shown(pyslurm.Node.load(request["name"]))}
        case "nodes":
            return {"nodes": [_shown(node) for node in pyslurm.Nodes.load().values()]}
        case "update":
            wanted = {key: request[key] for key in ("state", "reason") if request[key] is not None}
            pyslurm.Node(request["name"]).modify(pyslurm.Node(**wanted))
            return {}
        case other:
            raise ValueError(f"no such operation: {other!r}")


def _shown(node: Any) -> dict[str, Any]:
    # Without a reason some releases still name a user ("root").
    reason = _reason(node)
    return {
        "name": node.name,
        "state": node.state,
        "reason": reason,
        "reason_user": _reason_user(node) if reason else "",
        "reason_at": (node.reason_time or 0) if reason else 0,
        "boot_time": node.boot_time or 0,
        "slurmd_start_time": node.slurmd_start_time or 0,
    }


def _reason(node: Any) -> str:
    try:
        return node.reason or ""
    except UnicodeDecodeError as error:
        # Slurm takes any bytes; one odd reason must not hide a node, nor the whole table.
        return bytes(error.object).decode(errors="replace")


def _reason_user(node: Any) -> str:
    try:
        return node.reason_user or ""
    except KeyError as error:
        # A user whom this machine does not know: scontrol shows the number, and this error ends with it.
        return str(error.args[0]).rpartition(" ")[2]


if __name__ == "__main__":
    sys.exit(main())
