#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write what stage.py noted as rpm's lists of files: file_lists.py MANIFEST.json FOLDER makes FOLDER/PACKAGE.files."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def line(entry: Mapping[str, Any]) -> str:
    """One path as ``%files`` takes it."""
    path = entry["path"]
    words = [f"%attr({entry['mode']},root,root)"] if entry["mode"] else []
    if entry["is_folder"]:
        words.append("%dir")
    elif entry["is_config"]:
        words.append("%config(noreplace)")
    elif path.startswith("/usr/share/licenses/"):
        words.append("%license")
    elif path.startswith("/usr/share/doc/"):
        words.append("%doc")
    return " ".join([*words, f'"{path}"'])


def main(manifest: Path, folder: Path) -> int:
    """Write a list for each package."""
    for package, entries in json.loads(manifest.read_text()).items():
        lines = [line(entry) for entry in entries]
        # The folders that are the package's alone.
        lines += [f'%dir "{path}"' for path in sorted(_own_folders(entries))]
        (folder / f"{package}.files").write_text("\n".join(lines) + "\n")
    return 0


def _own_folders(entries: list[Mapping[str, Any]]) -> set[str]:
    known = ("/usr/share/doc/", "/usr/share/licenses/")
    above = {str(parent) for entry in entries for parent in Path(entry["path"]).parents}
    return {path for path in above if f"{path}/".startswith(known) and f"{path}/" not in known}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
