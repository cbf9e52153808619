# SPDX-License-Identifier: Apache-2.0
"""What a wave shall do, from options and from a file of the same names, as the coordinator takes it."""

# ruff: noqa: PLC0415 - a command line that imports what it does not run starts slowly

import functools
import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from refloat_contract.errors import Misconfigured
from refloat_contract.words import NodeOrder, OnDeadline

NODES: Final = Annotated[
    str | None,
    typer.Argument(help="Hostlist: n[1-4], @rack:r1, or * for all; may stand in --spec instead.", show_default=False),
]
_GIVEN: Final[Mapping[str, tuple[Any, str | None, str]]] = {
    "recipe": (str, "RECIPE", "What to do with each node; default reboot."),
    "image": (str, "IMAGE", "Image that a node must run afterwards to count as done."),
    "reason": (str, "TEXT", "Why, for people; it stands in the nodes' reason."),
    "max_unavailable": (
        str,
        "N|N%",
        "Nodes that may be out at once, for whatever cause: 5, or 10% of the wave; default 1.",
    ),
    "per_group": (list[str], "KIND=N", "The same for each group of a kind: rack=1. May be repeated."),
    "canary": (int, "N", "Nodes to do first; the rest waits until they are back and sound; default 0."),
    "soak": (str, "TIME", "How long the canaries must be sound before the rest follows: 15m; default 0."),
    "max_failures": (int, "N", "Pause when more nodes than this are held or lost; default 0."),
    "order": (NodeOrder, None, "Which nodes first; default name."),
    "window": (list[str], "WHEN", "Take nodes out only then: 'Mon-Fri 22:00-06:00 Europe/London'. May be repeated."),
    "deadline": (str, "TIME", "How long the jobs of a node are waited for: 4h; default: as long as they run."),
    "on_deadline": (
        OnDeadline,
        None,
        "What becomes of a node then; requeue and cancel-jobs end its jobs; default hold.",
    ),
    "blocker": (str, "COMMAND", "Command that is asked before nodes are taken out: exit status 0 lets them go."),
    "node_deadline": (str, "TIME", "A node that takes longer from its reboot to service is lost; default 1h."),
}
"""The options of a wave: type, what stands for the value in the help, and help. In a file they have the same names."""

_DURATIONS: Final = {"soak": "soak_s", "deadline": "deadline_s", "node_deadline": "node_deadline_s"}


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an argument for the nodes and all options of a wave; it gets them as ``spec``."""
    signature = inspect.signature(command)
    own = [parameter for name, parameter in signature.parameters.items() if name != "spec"]
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, typer.Option(metavar=shown, help=text, show_default=False)],
        )
        for name, (kind, shown, text) in _GIVEN.items()
    ]
    nodes = inspect.Parameter("nodes", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=NODES)
    file = inspect.Parameter(
        "file",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            Path | None,
            typer.Option("--spec", help="TOML file with the same names; options override it.", show_default=False),
        ],
    )

    @functools.wraps(command)
    def run(nodes: str | None = None, file: Path | None = None, **given: Any) -> None:
        options = {name: given.pop(name) for name in _GIVEN}
        command(spec=read(nodes, options, file), **given)

    parameters = [nodes, *options, file, *own]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # typer reads both
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def read(nodes: str | None, options: Mapping[str, Any], file: Path | None = None) -> dict[str, Any]:
    """The spec of a wave. What is not given is the coordinator's to choose.

    Raises:
        Misconfigured: a value cannot be read, or no nodes are named.
    """
    given = _from_file(file) if file is not None else {}
    given |= {name: value for name, value in options.items() if value not in (None, [])}
    if nodes is not None:
        given["nodes"] = nodes
    if not given.get("nodes"):
        raise Misconfigured("say which nodes: refloat wave plan 'n[1-4]', or nodes = \"n[1-4]\" in the file of --spec")
    return taken(given)


def _from_file(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        with path.open("rb") as file:
            read = tomllib.load(file)
    except OSError as error:
        raise Misconfigured(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path} is no TOML: {error}") from error
    given = _with_underscores(read)
    for key in given:
        if key not in {"nodes", *_GIVEN}:
            near = get_close_matches(key, ["nodes", *_GIVEN], 1)
            hint = f"; did you mean {near[0].replace('_', '-')!r}?" if near else ""
            raise Misconfigured(f"{path}: a wave has no {key.replace('_', '-')!r}{hint}")
    return given


def _with_underscores(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("-", "_"): value for key, value in given.items()}


def taken(given: Mapping[str, Any]) -> dict[str, Any]:
    """A spec by the names of the options, as the coordinator takes it; what has no such name is left as it is."""
    from refloat_cli.durations import parse

    spec: dict[str, Any] = {}
    for name, value in _with_underscores(given).items():
        if name in _DURATIONS:
            spec[_DURATIONS[name]] = parse(str(value))
        elif name == "per_group":
            spec[name] = _groups(value)
        elif name == "window":
            spec[name] = value if isinstance(value, str) else "; ".join(value)
        else:
            spec[name] = int(value) if name == "max_unavailable" and str(value).isdecimal() else value
    return spec


def _groups(given: Any) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return dict(given)
    pairs = [str(one).partition("=") for one in ([given] if isinstance(given, str) else given)]
    for kind, equals, amount in pairs:
        if not (kind and equals and amount):
            raise Misconfigured(f"per-group: {kind + equals + amount!r} is not a kind of group and a number: rack=1")
    return {kind: amount for kind, _, amount in pairs}
