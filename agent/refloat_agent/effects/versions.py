# SPDX-License-Identifier: Apache-2.0
"""What this node runs: system, kernel, command line, packages and drivers, and a digest of it all."""

import asyncio
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from refloat_checks import packages as of_packages
from refloat_checks.proc import Roots
from refloat_contract.errors import Transient
from refloat_contract.messages import Runs
from refloat_contract.reasons import one_line

_MOST: Final = 200
_MOST_CMDLINE: Final = 1024
# What a boot server tells each node apart by (dracut.cmdline(7), kernel-command-line(7), iPXE).
_OF_ONE_NODE: Final = frozenset(
    {"BOOTIF", "ip", "ifname", "hostname", "systemd.hostname", "systemd.machine_id", "rd.iscsi.initiator", "hostid"}
)
ABSENT: Final = "absent"
UNKNOWN: Final = "?"


async def read(roots: Roots, image: str, packages: Iterable[str], modules: Iterable[str]) -> Runs:
    """Look at it all."""
    os_release, kernel, cmdline = await asyncio.to_thread(_texts, roots)
    found = {module: await asyncio.to_thread(_module, roots, module) for module in modules}
    found |= {package: await _package(roots, package) for package in packages}
    return digested(
        Runs(
            image=one_line(image, _MOST),
            os=os_of(os_release),
            kernel=one_line(kernel, _MOST),
            cmdline=shared_words(cmdline),
            versions=found,
        )
    )


def os_of(release: str) -> str:
    """``rocky-9.4`` of the text of /etc/os-release."""
    lines = (line.partition("=") for line in release.splitlines())
    known = {key.strip(): value.strip().strip("\"'") for key, equals, value in lines if equals}
    return one_line("-".join(word for word in (known.get("ID", ""), known.get("VERSION_ID", "")) if word), _MOST)


def shared_words(cmdline: str) -> str:
    """The command line without the words in which every node differs."""
    return one_line(" ".join(w for w in cmdline.split() if w.partition("=")[0] not in _OF_ONE_NODE), _MOST_CMDLINE)


def digested(runs: Runs) -> Runs:
    """The same with its digest: what can be told apart has another."""
    text = json.dumps(runs.model_dump(exclude={"digest"}), sort_keys=True)
    return runs.model_copy(update={"digest": hashlib.sha256(text.encode()).hexdigest()[:12]})


def _texts(roots: Roots) -> tuple[str, str, str]:
    return (
        _text(roots.root / "etc/os-release"),
        _text(roots.proc / "sys/kernel/osrelease"),
        _text(roots.proc / "cmdline"),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""  # this system does not tell, which is all that is to be said of it


def _module(roots: Roots, name: str) -> str:
    folder = roots.sys / "module" / name.replace("-", "_")
    if not folder.is_dir():
        return ABSENT
    # Most modules of the kernel's own have no version, but a checksum of their source.
    version = _text(folder / "version") or _text(folder / "srcversion")
    return one_line(version, _MOST) or UNKNOWN


async def _package(roots: Roots, name: str) -> str:
    try:
        found = await of_packages.installed(name, roots.root)
    except Transient:
        return UNKNOWN
    return UNKNOWN if found is None else one_line(",".join(sorted(found)), _MOST) or ABSENT
