# SPDX-License-Identifier: Apache-2.0
"""`refloat simulate`: its options."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refloat_cli.options import Json

if TYPE_CHECKING:
    from refloat_cli.simulate.inventory import Inventory, Mix
    from refloat_cli.simulate.plan import Plan

# ruff: noqa: PLC0415 - the rest of the command line does without all of this


_GARBAGE = 500_000
"""So many new objects before Python looks for those that hold each other."""


def simulate(
    spec: Annotated[Path | None, typer.Argument(help="A TOML file that says what to simulate; see docs.")] = None,
    *,
    nodes: Annotated[str | None, typer.Option(help="The cluster: n[1-1000]. Or take this one, with --live.")] = None,
    live: Annotated[bool, typer.Option("--live", help="This cluster, as Slurm shows it now; only read.")] = False,
    nodes_file: Annotated[Path | None, typer.Option(help="A cluster dumped by scontrol (see below).")] = None,
    jobs_file: Annotated[Path | None, typer.Option(help="Its queue, dumped by squeue.")] = None,
    history_file: Annotated[
        Path | None, typer.Option(help="Its past jobs, dumped by sacct: what new ones are like.")
    ] = None,
    limit: Annotated[str | None, typer.Option(help='How many nodes may be out at all: 50, or "10%".')] = None,
    never_return: Annotated[str | None, typer.Option(help='Nodes that do not come back: 3, or "2%".')] = None,
    boot: Annotated[float | None, typer.Option(min=1, help="Seconds that a reboot takes.")] = None,
    load: Annotated[float | None, typer.Option(min=0, max=1, help="Share of the nodes that jobs run on.")] = None,
    seed: Annotated[int | None, typer.Option(help="Other jobs, times and faults.")] = None,
    wave: Annotated[
        list[str] | None,
        typer.Option("--wave", "-w", help="One setting of the wave: -w max_unavailable=5% -w canary=2."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw nodes by what they are at over time, as SVG.")] = None,
    json: Json = False,
) -> None:
    """Say beforehand how long a wave will take, how low capacity goes, and what happens if nodes do not come back.

    What decides is what decides on a real cluster: the coordinator's loop and every agent's state machine. Slurm, its
    jobs, the machines and the clock are simulated, so that a week passes in a minute. Nothing is written anywhere.

    To simulate another cluster than this one, make dumps there:

    SLURM_TIME_FORMAT=%s scontrol -o show nodes > nodes.txt

    squeue -h -t R,CG,PD -o '%i|%T|%D|%L|%l|%N' > jobs.txt

    sacct -a -X -n -P -S now-7days -s CD,TO,F -o NNodes,ElapsedRaw,TimelimitRaw > history.txt
    """
    from refloat_cli.asking import run
    from refloat_service import logs

    given = {
        "nodes": nodes,
        "nodes_file": nodes_file,
        "jobs_file": jobs_file,
        "history_file": history_file,
        "limits": {"max_unavailable": limit},
        "faults": {"never_return": never_return},
        "times": {"boot_s": boot},
        "jobs": {"load": load},
        "seed": seed,
        "wave": _pairs(wave or []),
    }
    plan = _plan(spec, given)
    logs.configure("console", "error")
    cluster, mix = _cluster(plan, live=live)
    raise typer.Exit(run(_play(plan, cluster, mix, plot, as_json=json)))


def _plan(spec: Path | None, given: dict[str, Any]) -> "Plan":
    """The file, with what the command line says laid over it."""
    from refloat_cli.simulate.plan import Plan, merged
    from refloat_service.settings import load

    base = load(Plan, spec, env_prefix="REFLOAT_SIMULATE")
    return merged(base, given)


def _pairs(texts: list[str]) -> dict[str, Any]:
    import tomllib

    from refloat_contract.errors import Misconfigured

    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise Misconfigured(f"--wave {text!r}: write it as name=value, such as max_unavailable=50")
        try:
            found[name.replace("-", "_")] = tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            found[name.replace("-", "_")] = value
    return found


def _cluster(plan: "Plan", *, live: bool) -> "tuple[Inventory, Mix]":
    from refloat_cli.asking import run
    from refloat_cli.simulate import dumps, inventory
    from refloat_contract.errors import Misconfigured

    if live:
        nodes, jobs, history = run(dumps.live())
        found = inventory.read_jobs(jobs, "squeue", inventory.read_nodes(nodes, "scontrol"))
        drawn = inventory.read_history(history, "sacct")
    elif plan.nodes_file is not None:
        found = inventory.read_nodes(dumps.read(plan.nodes_file), str(plan.nodes_file))
        if plan.jobs_file is not None:
            found = inventory.read_jobs(dumps.read(plan.jobs_file), str(plan.jobs_file), found)
        drawn = (
            inventory.read_history(dumps.read(plan.history_file), str(plan.history_file)) if plan.history_file else ()
        )
    elif plan.nodes:
        found, drawn = inventory.of_hostlist(plan.nodes), ()
    else:
        raise Misconfigured("say which cluster: --nodes 'n[1-1000]', --live, --nodes-file FILE, or a spec file")
    return found, inventory.Mix(plan.jobs, inventory.load_of(found, plan.jobs), drawn)


async def _play(plan: "Plan", cluster: "Inventory", mix: "Mix", plot: Path | None, *, as_json: bool) -> int:
    import gc
    import time

    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from refloat_cli.asking import console, write_json
    from refloat_cli.simulate.outcome import outcome_of, table
    from refloat_cli.simulate.world import World

    began = time.monotonic()
    screen = console()
    quiet = as_json or not screen.is_terminal
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=screen, transient=True, disable=quiet) as bar:
        task = bar.add_task(f"simulating {len(cluster.names)} nodes", total=1.0)
        world = World(plan, cluster, mix)
        # Millions of small things that are soon gone, over thousands that stay: looking for cycles is dear, and vain.
        gc.freeze()
        gc.set_threshold(_GARBAGE)
        await world.run(lambda done: bar.update(task, completed=done))
    outcome = outcome_of(world, time.monotonic() - began)
    if plot is not None:
        from refloat_cli.simulate.plot import write

        write(plot, world.course, f"{outcome.nodes} nodes: {outcome.state} after {outcome.duration_s / 3600:.1f} h")
    if as_json:
        write_json(outcome.as_dict())
    else:
        screen.print(table(outcome))
    return 0 if outcome.is_good else 1
