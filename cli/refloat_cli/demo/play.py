# SPDX-License-Identifier: Apache-2.0
"""Play the demo: bring the cluster up, run one wave over it, show it, and say what came of it."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from refloat_cli.asking import console, write_json
from refloat_cli.demo.cluster import IMAGE, DemoCluster, Plan, running
from refloat_cli.demo.outcome import Outcome, outcome_of, table
from refloat_cli.views import WaveView, changes, render
from refloat_cli.watching import views
from refloat_cli.ways import SocketWay
from refloat_contract.messages import WaveReport, WaveSpec
from refloat_service import control, logs

_WARM_UP_S: Final = 2.0
_FRAMES_PER_S: Final = 4
_ROWS: Final = 10


@dataclass(slots=True)
class Show:
    """What the audience sees while the wave runs."""

    cluster: DemoCluster
    screen: Console
    view: WaveView | None = None

    def frame(self) -> RenderableType:
        """The picture of this moment."""
        slurmctld = self.cluster.slurmctld
        line = Text.assemble(
            ("simulated cluster  ", "bold"),
            f"{self.cluster.plan.nodes} nodes · {slurmctld.jobs_run} jobs run · ",
            (f"{slurmctld.jobs_harmed} harmed", "green" if slurmctld.jobs_harmed == 0 else "bold red"),
            f" · {slurmctld.out} of at most {self.cluster.plan.budget} nodes out",
        )
        if self.view is None:
            return Group(line, Text("bringing up the broker, the coordinator and an agent on every node ..."))
        return Group(line, Text(), render(self.view, time.time(), self.screen.width, _ROWS))


async def play(plan: Plan, *, as_json: bool, keep: Path | None) -> int:
    """Run the demo; exit status 0 if it kept all that it promises."""
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="refloat-demo-")))
        folder.mkdir(parents=True, exist_ok=True)
        log = stack.enter_context((folder / "log.json").open("w"))
        logs.configure("json", "info" if keep else "error", log)
        outcome = await _run(plan, folder, as_json=as_json)
    if as_json:
        write_json(outcome.as_dict())
    else:
        console().print(table(outcome))
    return 0 if outcome.is_good else 1


async def _run(plan: Plan, folder: Path, *, as_json: bool) -> Outcome:
    began = time.monotonic()
    async with running(plan, folder) as cluster:
        view = await _watch(cluster, await begin(cluster), as_json=as_json)
        return outcome_of(cluster, view, time.monotonic() - began)


async def begin(cluster: DemoCluster) -> str:
    """Let jobs come up, and start the wave over all nodes; answers with its id."""
    await asyncio.sleep(_WARM_UP_S)
    plan = cluster.plan
    spec = WaveSpec(
        nodes=plan.hostlist,
        image=IMAGE,
        max_unavailable=plan.budget,
        canary=2,
        max_failures=3,
        node_deadline_s=plan.lost_after_s,
    )
    answer = await control.call(cluster.coordinator_socket, "wave_start", spec=spec.model_dump())
    return WaveReport.model_validate(answer).id


async def _watch(cluster: DemoCluster, wave: str, *, as_json: bool) -> WaveView:
    show = Show(cluster, console())
    async with contextlib.aclosing(views(SocketWay(cluster.coordinator_socket), wave)) as shown:
        if as_json:
            return await _last(shown)
        if not show.screen.is_terminal:
            return await _lines(shown, show.screen)
        with Live(get_renderable=show.frame, console=show.screen, refresh_per_second=_FRAMES_PER_S):
            async for view in shown:
                show.view = view
        if show.view is None:
            raise AssertionError("a wave is shown at least once")
        return show.view


async def _last(shown: AsyncIterator[WaveView]) -> WaveView:
    latest: WaveView | None = None
    async for view in shown:
        latest = view
    if latest is None:
        raise AssertionError("a wave is shown at least once")
    return latest


async def _lines(shown: AsyncIterator[WaveView], screen: Console) -> WaveView:
    latest: WaveView | None = None
    async for view in shown:
        for line in changes(latest, view, time.time()):
            screen.print(line, soft_wrap=True, markup=False)
        latest = view
    if latest is None:
        raise AssertionError("a wave is shown at least once")
    return latest
