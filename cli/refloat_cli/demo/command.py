# SPDX-License-Identifier: Apache-2.0
"""`refloat demo`: its options."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from refloat_cli.options import Json


def demo(
    *,
    nodes: Annotated[int, typer.Option(min=18, max=200, help="Nodes of the simulated cluster.")] = 24,
    budget: Annotated[int, typer.Option(min=1, help="How many may be out at once.")] = 6,
    seed: Annotated[int, typer.Option(help="Other jobs and boot times.")] = 1,
    keep: Annotated[Path | None, typer.Option(help="Keep logs, journals and the ledger in this folder.")] = None,
    json: Json = False,
) -> None:
    """Show the main job on a simulated cluster: a rolling reboot while jobs run; needs nothing but Python.

    The broker, the coordinator and an agent on every node are real; Slurm, mounts and power are simulated. One node
    does not come back from its reboot, one fails a check after it: both are held, and say why. Takes about a minute.
    """
    from refloat_contract.errors import Misconfigured  # noqa: PLC0415 - the rest of the command line does without this

    if find_spec("amqtt") is None:
        raise Misconfigured("the demo's own broker, amqtt, is not installed: run `make demo` in a checkout")

    from refloat_cli.asking import run  # noqa: PLC0415 - the same
    from refloat_cli.demo.cluster import Plan  # noqa: PLC0415 - the same
    from refloat_cli.demo.play import play  # noqa: PLC0415 - the same

    if budget >= nodes:
        raise Misconfigured(f"--budget {budget}: a wave takes some nodes, never all {nodes}")
    raise typer.Exit(run(play(Plan(nodes=nodes, budget=budget, seed=seed), as_json=json, keep=keep)))
