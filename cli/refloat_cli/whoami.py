# SPDX-License-Identifier: Apache-2.0
"""Who runs this command: the person who logged in, also behind sudo or su."""

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Final

# proc(5): what the kernel shows for a process of no login session.
_NOBODY_LOGGED_IN: Final = "4294967295"


def name(env: Mapping[str, str] = os.environ, loginuid: Path = Path("/proc/self/loginuid")) -> str:
    """The login name; a number where it has none."""
    try:
        uid = loginuid.read_text().strip()
    except OSError:
        uid = _NOBODY_LOGGED_IN
    if uid in {"", _NOBODY_LOGGED_IN}:
        return env.get("SUDO_USER") or _of(os.geteuid())
    return _of(int(uid))


def _of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
