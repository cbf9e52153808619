# SPDX-License-Identifier: Apache-2.0
"""`refloat cycle`: cycles by hand."""

# ruff: noqa: PLC0415 - a command line that imports what it does not run starts slowly

from typing import Annotated, Any

import typer

from refloat_cli.options import Json, Socket

app = typer.Typer(no_args_is_help=True, help="Cycles of one node: what one would do.")


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

    answer = asking.ask(socket or asking.AGENT, "plan", recipe=recipe)
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
