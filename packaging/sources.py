#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lay out the sources that packages are built from: what git tracks of a checkout, or would; all, without git.

    sources.py FOLDER [--version VERSION]

VERSION takes the place of the one in pyproject.toml: two packages of the same code, to try an update with.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parent.parent
LEFT_OUT: Final = ("tests/", ".")
_VERSION: Final = re.compile(r'(?m)^version = "[^"]*"$')
_OTHERS_WRITE: Final = 0o022


def names(checkout: Path = CHECKOUT) -> Iterator[str]:
    """List the files of ``checkout`` that a package may hold or be built by."""
    if not (checkout / ".git").exists():
        yield from (name for name in _all_names(checkout) if not name.startswith((*LEFT_OUT, "build/")))
        return
    argv = ["git", "-C", str(checkout), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and not name.startswith(LEFT_OUT) and (checkout / name).is_file():
            yield name


def _all_names(checkout: Path) -> list[str]:
    files = [path for path in sorted(checkout.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    return [str(path.relative_to(checkout)) for path in files]


def lay_out(folder: Path, version: str | None = None) -> None:
    """Copy the sources to ``folder``, which must not be there yet."""
    for name in names():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, target)
        # Whatever the umask of the checkout was.
        target.chmod(target.stat().st_mode & ~_OTHERS_WRITE | 0o444)
    if version is not None:
        project = folder / "pyproject.toml"
        project.write_text(_VERSION.sub(f'version = "{version}"', project.read_text(), count=1))


def main(argv: Sequence[str]) -> int:
    """Do it; 0, or an error with its traceback."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--version")
    options = parser.parse_args(argv)
    lay_out(options.folder, options.version)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
