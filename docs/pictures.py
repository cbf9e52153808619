# SPDX-License-Identifier: Apache-2.0
"""Make docs/pictures: `refloat wave watch` in the middle of the demo's wave, and what `refloat simulate` plots."""

import asyncio
import contextlib
import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import MONOKAI

from refloat_cli.demo.cluster import Plan, running
from refloat_cli.demo.play import begin
from refloat_cli.views import WaveView, render
from refloat_cli.watching import views
from refloat_contract.words import Turn
from refloat_service import logs

PICTURES: Final = Path(__file__).parent / "pictures"
_FONT: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""Rich would have fonts loaded from elsewhere."""
_COLUMNS: Final = 96
_ROWS: Final = 12
_SIMULATED: Final = ("simulate", str(PICTURES / "wave.toml"), "--plot", str(PICTURES / "wave.svg"))


async def watch() -> None:
    """Play the demo, and keep the frame that shows most."""
    plan = Plan(nodes=24, budget=6, seed=1)
    logs.configure("console", "error")
    best: tuple[int, str] = (0, "")
    with tempfile.TemporaryDirectory(prefix="refloat-picture-") as folder:
        async with running(plan, Path(folder)) as cluster:
            wave = await begin(cluster)
            async with contextlib.aclosing(views(cluster.coordinator_socket, wave)) as shown:
                async for view in shown:
                    if _worth(view) > best[0]:
                        best = (_worth(view), _drawn(view))
    (PICTURES / "wave-watch.svg").write_text(best[1])


def _worth(view: WaveView) -> int:
    """How many different things a frame shows, while the wave is well under way."""
    phases = {node.phase for node in view.at_turn(Turn.MARKED)}
    return 0 if view.is_ended else len(phases) + 2 * len(view.at_turn(Turn.HELD))


def _drawn(view: WaveView) -> str:
    screen = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True)
    screen.print(render(view, time.time(), _COLUMNS, _ROWS))
    made = screen.export_svg(title="refloat wave watch", theme=MONOKAI, unique_id="refloat")
    return _FONT.sub("", made)


def main() -> int:
    """Make both."""
    PICTURES.mkdir(exist_ok=True)
    asyncio.run(watch())
    subprocess.run([Path(sys.executable).with_name("refloat"), *_SIMULATED], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
