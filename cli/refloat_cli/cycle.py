# SPDX-License-Identifier: Apache-2.0
"""`refloat cycle`: cycles by hand, through the reasons in Slurm, which stays the authority."""

# ruff: noqa: PLC0415 - a command line that imports what it does not run starts slowly

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from refloat_cli.options import Broker, Json, Socket

if TYPE_CHECKING:
    from refloat_cli.orders import Verb

app = typer.Typer(no_args_is_help=True, help="Cycles by hand: start, cancel, retry, release; and what one would do.")

Nodes = Annotated[str, typer.Argument(help="Hostlist: n[1-4]; the coordinator knows @rack:r1 and *.")]
Because = Annotated[str, typer.Option(help="Why, for people; it stands in the reason.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")]
Config = Annotated[
    Path | None,
    typer.Option(
        help="agent.toml or coordinator.toml with the site's words; default: that of the daemon on this host.",
        show_default=False,
    ),
]
BackendName: TypeAlias = Literal["auto", "scontrol", "pyslurm"]
Backend = Annotated[BackendName, typer.Option(help="How Slurm is reached.")]


@app.command(epilog="Example: refloat cycle plan --recipe reboot")
def plan(
    *,
    recipe: Annotated[str, typer.Option(help="The recipe.")] = "reboot",
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Show what a recipe would do on this node now, and what it would wait for first; nothing is done.

    It is asked of the agent of the node that this is run on.
    """
    from refloat_cli import asking

    answer = asking.ask(asking.agent(socket), "plan", recipe=recipe)
    if json:
        asking.write_json(answer)
        return
    for line in _lines(answer):
        asking.console().print(line, markup=False)


def _lines(answer: dict[str, Any]) -> list[str]:
    lines = [f"{answer['node']}: recipe {answer['recipe']}, asked for by reason={answer['trigger']}", ""]
    lines += [f"waits for  {line}" for line in answer["waits"]] or ["waits for  nothing"]
    lines.append("")
    for step in answer["steps"]:
        first, *rest = step["does"] or ["nothing"]
        lines.append(f"{step['number']:2} {step['step']:<8} {first}")
        lines += [f"{'':12}{line}" for line in rest]
        lines.append(f"{'':12}({step['limits']})")
    return lines


@app.command(
    epilog="Example: refloat cycle start 'n[1-4]' --recipe reboot --image compute-3f2a1c --because 'new kernel'"
)
def start(
    nodes: Nodes,
    *,
    recipe: Annotated[str, typer.Option(help="The recipe, or one of its triggers.")] = "reboot",
    image: Annotated[str, typer.Option(help="The image that the nodes must come up with.")] = "",
    because: Because = "",
    over_drain: Annotated[
        bool,
        typer.Option("--over-drain", help="Also where somebody else drained; that drain is given back at the end."),
    ] = False,
    dry_run: DryRun = False,
    config: Config = None,
    backend: Backend = "auto",
    json: Json = False,
) -> None:
    """Drain nodes with the reason that asks for a cycle; their agents do the rest.

    A node that is in a cycle, held, or drained by somebody else is refused, and named. Ends with 1 when one was.
    """
    from refloat_cli import ordering, orders, whoami

    words = ordering.dialect(config)
    wish = orders.Wish(ordering.word_of(recipe, words), whoami.name(), ordering.image_of(image), because=because)
    _perform(
        nodes,
        lambda view: orders.start(view, words, wish, over_drain=over_drain),
        backend=backend,
        dry_run=dry_run,
        json=json,
    )


@app.command(epilog="Example: refloat cycle cancel n3 --because 'wrong node'")
def cancel(
    nodes: Nodes,
    *,
    because: Because = "",
    dry_run: DryRun = False,
    config: Config = None,
    backend: Backend = "auto",
    json: Json = False,
) -> None:
    """Call running cycles off: what was taken down is brought up and checked, without a reboot, then the node resumed.

    A drain that somebody else had set before the cycle is given back instead, with its reason.
    """
    from refloat_cli import ordering, orders, whoami

    words, by = ordering.dialect(config), whoami.name()
    _perform(nodes, lambda view: orders.cancel(view, words, by, because), backend=backend, dry_run=dry_run, json=json)


@app.command(epilog="Example: refloat cycle release n3 --because 'labd repaired'")
def release(
    nodes: Nodes,
    *,
    because: Because = "",
    dry_run: DryRun = False,
    config: Config = None,
    backend: Backend = "auto",
    json: Json = False,
) -> None:
    """Give held nodes back: all is brought up and checked once more, then the node is resumed; it also resets loops."""
    from refloat_cli import ordering, orders, whoami

    words, by = ordering.dialect(config), whoami.name()
    _perform(nodes, lambda view: orders.release(view, words, by, because), backend=backend, dry_run=dry_run, json=json)


@app.command(epilog="Example: refloat cycle retry n3")
def retry(
    nodes: Nodes,
    *,
    recipe: Annotated[str, typer.Option(help="The recipe, where no daemon knows what it was.")] = "",
    image: Annotated[str, typer.Option(help="The image, with --recipe.")] = "",
    because: Because = "",
    dry_run: DryRun = False,
    config: Config = None,
    backend: Backend = "auto",
    socket: Socket = None,
    broker: Broker = None,
    json: Json = False,
) -> None:
    """Ask for the cycles of held nodes anew: with the recipe, image and wave that the coordinator or agent knows."""
    from refloat_cli import asking, ordering, orders, whoami

    words, by = ordering.dialect(config), whoami.name()
    if recipe:
        given = orders.Wish(ordering.word_of(recipe, words), by, ordering.image_of(image), because=because)
        _perform(
            nodes, lambda view: orders.retry(view, words, lambda _: given), backend=backend, dry_run=dry_run, json=json
        )
        return
    known = asking.run(ordering.remembered(asking.either(socket, broker), _expanded(nodes), words, by, because))
    _perform(nodes, lambda view: orders.retry(view, words, known), backend=backend, dry_run=dry_run, json=json)


def _expanded(nodes: str) -> tuple[str, ...]:
    if set(nodes) & set("@*?"):
        from refloat_cli import asking

        return tuple(asking.ask(asking.coordinator(None, None), "expand", nodes=nodes))
    from refloat_coordinator import hostlists

    return hostlists.expand(nodes)


def _perform(nodes: str, verb: "Verb", *, backend: BackendName, dry_run: bool, json: bool) -> None:
    from refloat_cli import asking, ordering

    names = _expanded(nodes)

    async def work() -> "list[ordering.Told]":
        return await ordering.perform(await ordering.open_gateway(backend), names, verb, dry_run=dry_run)

    told = asking.run(work())
    if json:
        asking.write_json([one.as_dict() for one in told])
    else:
        for one in told:
            typer.echo(f"{one.node}: {one.outcome}: {one.told}")
    raise typer.Exit(ordering.exit_status(told))
