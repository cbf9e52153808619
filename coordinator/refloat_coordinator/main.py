# SPDX-License-Identifier: Apache-2.0
"""The command ``refloat-coordinator``."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from refloat_contract.errors import Misconfigured, RefloatError
from refloat_coordinator import group_sources
from refloat_coordinator.config import CoordinatorSettings
from refloat_coordinator.daemon import Coordinator
from refloat_service import logs, settings

ENV_PREFIX: Final = "REFLOAT_COORDINATOR"
EX_FAILED: Final = 1
EX_USAGE: Final = 2
EX_CONFIG: Final = 78
"""sysexits.h; the unit has RestartPreventExitStatus=78, since a restart mends no configuration."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the coordinator, or check its configuration; answers with the exit status."""
    options = parser().parse_args(argv)
    try:
        wanted = settings.load(CoordinatorSettings, options.config, env_prefix=ENV_PREFIX)
        if options.check_config:
            group_sources.listed(wanted.groups)
            print(f"{options.config or 'the defaults'}: good")  # noqa: T201 - the answer
            return 0
        logs.configure(wanted.log.format, wanted.log.level)
        asyncio.run(_run(wanted))
    except Misconfigured as error:
        return _say(error, EX_USAGE if options.check_config else EX_CONFIG)
    except RefloatError as error:
        return _say(error, EX_FAILED)
    return 0


async def _run(wanted: CoordinatorSettings) -> None:
    coordinator = Coordinator(wanted)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, coordinator.stop)
    await coordinator.run()


def _say(error: RefloatError, status: int) -> int:
    print(f"refloat-coordinator: {error}", file=sys.stderr)  # noqa: T201 - also before there is a log
    return status


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="refloat-coordinator", description="Feeds agents, hands out permits, drives waves, keeps the record."
    )
    made.add_argument("--config", type=Path, metavar="FILE", help="the configuration, TOML; none: defaults")
    made.add_argument("--check-config", action="store_true", help="check the configuration, and do nothing else")
    return made


if __name__ == "__main__":
    sys.exit(main())
