# SPDX-License-Identifier: Apache-2.0
"""Write the scripts by which shells complete the `refloat` command: ``python -m refloat_cli.completions FOLDER``."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from typer._completion_shared import get_completion_script

FILES: Final[Mapping[str, str]] = {"bash": "refloat.bash", "zsh": "_refloat", "fish": "refloat.fish"}
"""The file of each shell, by the name that it looks for."""


def script(shell: str) -> str:
    """What the shell has to read: it asks the command itself, so that it never knows less than the command."""
    text = get_completion_script(prog_name="refloat", complete_var="_REFLOAT_COMPLETE", shell=shell)
    return text.strip() + "\n"


def main() -> None:
    """Write all of them into the folder named on the command line."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for shell, name in FILES.items():
        (folder / name).write_text(script(shell))


if __name__ == "__main__":
    main()
