# SPDX-License-Identifier: Apache-2.0
"""Read an nhc.conf and the site's scripts from disk, and plan a pass over them."""

# pathlib would be a tenth of what the one-shot command may cost.
# ruff: noqa: PTH118, PTH123

from __future__ import annotations

import os

from refloat_checks.nhc import plan, registry
from refloat_checks.nhc.plan import Plan
from refloat_contract.errors import Misconfigured


def is_native(name: str) -> bool:
    """Tell whether a check is native here."""
    return registry.is_native(name)


def hostname() -> str:
    """The host's name as NHC takes it, from the kernel."""
    return os.uname().nodename


def scripts(place: str) -> dict[str, str]:
    """The site's scripts by path; a folder that is not there has none. Raises Misconfigured."""
    try:
        names = sorted(name for name in os.listdir(place) if name.endswith(".nhc"))  # noqa: PTH208 - no pathlib
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Misconfigured(f"{place}: {error.strerror}") from error
    return {path: _text(path) for path in (os.path.join(place, name) for name in names)}


def read(path: str, host: str, scripts_dir: str, *, strict: bool = False) -> Plan:
    """Read a file and the scripts, and plan what is to be done on a host.

    Raises Misconfigured where they cannot be read.
    """
    return plan.make(_text(path), host, scripts(scripts_dir), is_native, strict=strict)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}") from error
