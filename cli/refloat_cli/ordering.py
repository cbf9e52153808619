# SPDX-License-Identifier: Apache-2.0
"""Write what `refloat cycle` is told to into Slurm, node by node, and read back what stands there.

An update of a whole hostlist is not atomic in Slurm and does not say which node it refused, so each node is written by
itself, some at a time.
"""

import asyncio
import importlib.util
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from refloat_cli import configuring
from refloat_cli.config import Kind
from refloat_cli.orders import Order, Refusal, Verb, Wish
from refloat_cli.ways import Way
from refloat_contract.errors import Misconfigured, RefloatError, Refused, Transient, UnknownNode
from refloat_contract.reasons import Dialect, Word, is_option_value, is_same
from refloat_service import settings
from refloat_slurm.choose import Kind as Backend
from refloat_slurm.choose import choose
from refloat_slurm.gateway import NodeView, SlurmGateway

_CONFIGS: Final = (Path("/etc/refloat/coordinator.toml"), Path("/etc/refloat/agent.toml"))
_AT_ONCE: Final = 8
_FEW: Final = 4
"""So many nodes are cheaper for slurmctld to be asked for one by one than with its whole table."""
_RETURN: Final = "release"
_LATEST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one node; ``outcome`` is done, would, nothing, refused or unreachable."""

    node: str
    outcome: str
    told: str

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


def exit_status(told: Iterable[Told]) -> int:
    """3 where Slurm did not answer for some node, 1 where one was refused, else 0."""
    outcomes = {one.outcome for one in told}
    return 3 if "unreachable" in outcomes else 1 if "refused" in outcomes else 0


def dialect(config: Path | None) -> Dialect:
    """The words of this site: of the file given, or of the daemons' own on this host.

    Raises:
        Misconfigured: the file is wrong.
    """
    path = config or next((path for path in _CONFIGS if path.exists()), None)
    if path is None:
        return Dialect()
    kind = configuring.recognised(path)
    if kind is Kind.AGENT:
        from refloat_agent.config import AgentSettings  # noqa: PLC0415 - only where it is needed

        return settings.load(AgentSettings, path, env_prefix="REFLOAT_AGENT").dialect()
    from refloat_coordinator.config import CoordinatorSettings  # noqa: PLC0415 - the same

    return settings.load(CoordinatorSettings, path, env_prefix="REFLOAT_COORDINATOR").reasons.dialect()


def word_of(recipe: str, words: Dialect) -> Word:
    """The word that asks for a recipe, which may be named by itself or by one of its triggers.

    Raises:
        Misconfigured: no word asks for it.
    """
    word = words.word_for_recipe(recipe) or words.word(recipe)
    if word is None:
        known = ", ".join(dict.fromkeys(word.recipe for word in words.words))
        raise Misconfigured(f"recipe: no word asks for {recipe!r} (known recipes: {known}; --config names the site's)")
    return word


def image_of(text: str) -> str:
    """An image that can stand in a reason.

    Raises:
        Misconfigured: it cannot.
    """
    if text and not is_option_value(text):
        raise Misconfigured(f"image: {text!r} cannot stand in a reason: use one word of letters, digits, ._:/@+-")
    return text


async def open_gateway(backend: Backend) -> SlurmGateway:
    """The way to Slurm of whoever runs this.

    Raises:
        Transient: this host has none.
    """
    if shutil.which("scontrol") is None and importlib.util.find_spec("pyslurm") is None:
        raise Transient("this host has no scontrol: run it where Slurm's tools are, as a Slurm administrator")
    return (await choose(backend)).gateway


async def perform(gateway: SlurmGateway, nodes: Sequence[str], verb: Verb, *, dry_run: bool) -> list[Told]:
    """Look at each node, write what the verb says, and look again.

    Raises:
        Transient: slurmctld does not answer.
    """
    try:
        views = await _views(gateway, nodes)
        verdicts = [verb(views[node]) if node in views else _unknown(node) for node in nodes]
        told = [_unwritten(verdict) if dry_run or isinstance(verdict, Refusal) else None for verdict in verdicts]
        gate = asyncio.Semaphore(_AT_ONCE)
        orders = [verdict for verdict, one in zip(verdicts, told, strict=True) if one is None]
        written = await asyncio.gather(*(_write(gateway, order, gate) for order in orders if isinstance(order, Order)))
        after = await _confirmed(gateway, written) if written else {}
        return [after[verdict.node] if one is None else one for verdict, one in zip(verdicts, told, strict=True)]
    finally:
        await gateway.aclose()


async def _views(gateway: SlurmGateway, nodes: Sequence[str]) -> Mapping[str, NodeView]:
    if len(nodes) > _FEW:
        return await gateway.nodes()
    found = {}
    for node in nodes:
        try:
            found[node] = await gateway.node(node)
        except UnknownNode:  # one wrong name does not stop the others
            continue
    return found


def _unknown(node: str) -> Refusal:
    return Refusal(node, "Slurm has no such node")


def _unwritten(verdict: Order | Refusal) -> Told:
    if isinstance(verdict, Refusal):
        return Told(verdict.node, "nothing" if verdict.is_good else "refused", verdict.why)
    state = f"state={verdict.change} " if verdict.change else ""
    return Told(verdict.node, "would", f"would write {state}reason={verdict.reason!r}")


async def _write(gateway: SlurmGateway, order: Order, gate: asyncio.Semaphore) -> tuple[Order, RefloatError | None]:
    async with gate:
        try:
            await gateway.update(order.node, order.change, order.reason)
        except RefloatError as error:
            return order, error
    return order, None


async def _confirmed(gateway: SlurmGateway, written: Sequence[tuple[Order, RefloatError | None]]) -> Mapping[str, Told]:
    try:
        views = await _views(gateway, [order.node for order, _ in written])
    except RefloatError as error:
        return {order.node: Told(order.node, "unreachable", f"written, not read back: {error}") for order, _ in written}
    return {order.node: _as_shown(order, failed, views.get(order.node)) for order, failed in written}


def _as_shown(order: Order, failed: RefloatError | None, view: NodeView | None) -> Told:
    # What Slurm shows decides: a write that timed out may have been applied all the same.
    if view is not None and "DRAIN" in view.flags and is_same(view.reason, order.reason):
        return Told(order.node, "done", f"reason={order.reason!r}")
    if failed is not None:
        outcome = "refused" if isinstance(failed, Refused) else "unreachable"
        return Told(order.node, outcome, str(failed))
    shown = view.reason if view is not None else "nothing"
    return Told(order.node, "refused", f"written, but Slurm shows {shown!r} now: somebody else was at work")


async def remembered(
    way: Way, nodes: Sequence[str], words: Dialect, by: str, because: str
) -> Callable[[str], Wish | None]:
    """What a daemon knows of held cycles, by their ids: recipe, image, wave."""
    found: dict[str, dict[str, str]] = {}
    try:
        shown = await way.call("status", nodes=",".join(nodes))
        for one in [shown] if isinstance(shown, dict) else shown:
            cycle = (one.get("report") or {}).get("cycle") or {}
            found[cycle.get("id", "")] = cycle
        if not isinstance(shown, dict):
            for event in await way.call("events", nodes=",".join(nodes), limit=_LATEST):
                # The record knows what a node that has forgotten it can only guess.
                if event.get("cycle") in found and event.get("recipe") not in {"", _RETURN, None}:
                    found[event["cycle"]] |= {"recipe": event["recipe"], "wave": event.get("wave", "")}
    except RefloatError:
        return lambda _: None

    def wish_of(cycle: str) -> Wish | None:
        known = found.get(cycle, {})
        word = words.word_for_recipe(known.get("recipe", ""))
        if not cycle or word is None:
            return None
        return Wish(word, by, known.get("image", ""), known.get("wave", ""), because)

    return wish_of
