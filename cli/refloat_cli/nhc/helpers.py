# SPDX-License-Identifier: Apache-2.0
"""Whom `nhc` tells that the node failed or is well again: the site's own helper if it set one, else Slurm."""

# ruff: noqa: PTH112, PTH113, PTH118, PTH123 - pathlib would be a tenth of what the command may cost

from __future__ import annotations

import os

from refloat_checks.nhc import words
from refloat_cli.nhc.marking import Marking
from refloat_contract.errors import RefloatError

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Final

    from refloat_checks.nhc.engine import Engine

    Log = Callable[[str], None]

AGENT_TOML: Final = "/etc/refloat/agent.toml"
HELPER_S: Final = 10.0


async def offline(variables: Mapping[str, str], env: Mapping[str, str], log: Log, message: str, engine: Engine) -> None:
    """Take the node out of service with this message."""
    if await _by_helper("OFFLINE_NODE", "node-mark-offline", variables, env, log, engine, message):
        return
    await _marking(variables, env, log, engine).offline(message, strict=variables.get("NHC_COMPAT") == "strict")


async def online(variables: Mapping[str, str], env: Mapping[str, str], log: Log, engine: Engine) -> None:
    """Give back a node that NHC took out of service."""
    if not await _by_helper("ONLINE_NODE", "node-mark-online", variables, env, log, engine):
        await _marking(variables, env, log, engine).online()


def resource_manager(variables: Mapping[str, str]) -> str:
    """Which resource manager runs here, as NHC finds it; empty if none."""
    if variables.get("NHC_RM"):
        return variables["NHC_RM"]
    if os.path.isdir("/var/spool/torque"):
        return "pbs"
    found = {"scontrol": "slurm", "pbsnodes": "pbs", "qselect": "sge", "badmin": "lsf", "sbatchd": "lsf"}
    path = variables.get("PATH", "")
    places = path.split(":")
    return next((manager for program, manager in found.items() if _is_in(places, program)), "")


def _is_in(places: Sequence[str], program: str) -> bool:
    paths = (os.path.join(place or ".", program) for place in places)
    return any(os.path.isfile(path) and os.access(path, os.X_OK) for path in paths)


async def _by_helper(
    variable: str,
    default: str,
    variables: Mapping[str, str],
    env: Mapping[str, str],
    log: Log,
    engine: Engine,
    *data: str,
) -> bool:
    """Run the helper, where one is to be run; True where nothing else is to be done."""
    manager = resource_manager(variables)
    if not manager:
        log("No resource manager was found:  the node is not marked")
        return True
    own = os.path.join(variables.get("HELPERDIR", ""), default)
    given = variables.get(variable) or ("" if manager == "slurm" else own)
    if given in {"", own} and manager == "slurm":
        return False
    command = words.parse(given)
    argv = [word for each in (command.words if command else ()) for word in words.expand(each, variables.get) or []]
    if argv[:1] in ([], [":"]):
        return True
    exported = {**env, **variables, "NHC_RM": manager}
    try:
        # What it is told is an argument, and never text for a shell.
        launched = ("/usr/bin/env", "--", *argv, variables["HOSTNAME"], *data)
        done = await engine.command(launched, deadline_s=HELPER_S, env=exported)
        for line in (done.stdout + done.stderr).splitlines():
            log(line)
    except RefloatError as error:
        log(f"The node is not marked:  {error}")
    return True


def _marking(variables: Mapping[str, str], env: Mapping[str, str], log: Log, engine: Engine) -> Marking:
    return Marking(
        {**{name: env[name] for name in ("SLURM_CONF",) if name in env}, **variables},
        names(variables, env),
        log,
        engine,
    )


def names(variables: Mapping[str, str], env: Mapping[str, str], agent_toml: str = AGENT_TOML) -> list[str]:
    """The names that Slurm may know this node by: as slurmd says, as refloat is configured, as the host is called."""
    found = [env.get("SLURMD_NODENAME", ""), _configured(agent_toml), variables["HOSTNAME"], variables["HOSTNAME_S"]]
    if variables.get("NHC_COMPAT") == "strict":
        found = [variables["HOSTNAME"]]
    return list(dict.fromkeys(name for name in found if name))


def _configured(agent_toml: str) -> str:
    import tomllib  # noqa: PLC0415 - it takes regular expressions

    try:
        with open(agent_toml, "rb") as file:
            return str(tomllib.load(file).get("node", ""))
    except (OSError, ValueError):
        return ""
