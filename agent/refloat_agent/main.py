# SPDX-License-Identifier: Apache-2.0
"""refloat-agent: the command that systemd starts."""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from refloat_agent import config
from refloat_agent.config import AgentSettings
from refloat_agent.daemon import Agent
from refloat_agent.report import VERSION
from refloat_contract.errors import Misconfigured, RefloatError
from refloat_service import affinity, logs, notify, settings
from refloat_slurm.choose import choose

log = structlog.get_logger(__name__)

_STOP_AGAIN_S: Final = 2.0
EX_CONFIG: Final = 78  # sysexits.h; the unit does not restart on it


def main(argv: Sequence[str] | None = None) -> None:
    """Run the agent until it is told to stop."""
    options = parser().parse_args(argv)
    try:
        loaded = settings.load(AgentSettings, options.config, env_prefix=config.ENV_PREFIX)
        logs.configure(loaded.log.format, loaded.log.level)
        if options.check_config:
            sys.stdout.write(f"{options.config}: good; node {loaded.node}, mode {loaded.mode}\n")
            return
        if loaded.cpus:
            affinity.pin(affinity.parse(loaded.cpus))
        asyncio.run(_run(loaded, options.config))
    except* Misconfigured as group:
        _fail(group, EX_CONFIG)
    except* RefloatError as group:
        _fail(group, 1)


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="refloat-agent",
        description="The node agent of refloat: runs health checks, watches this node in Slurm, and takes it through "
        "drain, unmount, reboot, remount and resume when its drain reason asks for it.",
        epilog="example: refloat-agent --config /etc/refloat/agent.toml --check-config",
    )
    made.add_argument("--config", type=Path, default=config.DEFAULT_PATH, help="configuration (default: %(default)s)")
    made.add_argument("--check-config", action="store_true", help="say whether the configuration is good, and end")
    made.add_argument("--version", action="version", version=f"refloat-agent {VERSION}")
    return made


def _fail(group: BaseExceptionGroup[RefloatError], status: int) -> None:
    for error in _leaves(group):
        sys.stderr.write(f"refloat-agent: {error}\n")
    raise SystemExit(status)


def _leaves(group: BaseExceptionGroup[RefloatError]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves


def _stop(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    """Cancel until it takes: before Python 3.13 a TaskGroup that fails in that very moment swallows a cancellation."""
    if not task.done():
        task.cancel()
        loop.call_later(_STOP_AGAIN_S, _stop, loop, task)


async def _run(loaded: AgentSettings, path: Path) -> None:
    notifier = notify.from_environment()
    choice = await choose(loaded.slurm.backend, node=loaded.node, deadline_s=loaded.slurm.deadline_s)
    log.info("slurm_backend", backend=choice.gateway.backend, why=choice.why)

    def read_again() -> AgentSettings:
        return settings.load(AgentSettings, path, env_prefix=config.ENV_PREFIX)

    # In a thread, for it reads an nhc.conf.
    agent = await asyncio.to_thread(Agent, loaded, choice.gateway, notifier=notifier, read_settings=read_again)
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("asyncio.run() runs us in a task")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, loop, task)
    loop.add_signal_handler(signal.SIGHUP, agent.checklist.tell)
    with contextlib.suppress(asyncio.CancelledError):
        await agent.run()
