# SPDX-License-Identifier: Apache-2.0
"""What login.defs(5) says of users' numbers."""

from __future__ import annotations


def max_sys_uid(text: str) -> int:
    """The highest user number that is the system's own."""
    found = {line.split()[0]: line.split()[1] for line in text.splitlines() if len(line.split()) > 1}
    if found.get("SYS_UID_MAX", "").isdecimal():
        return int(found["SYS_UID_MAX"])
    return int(found["UID_MIN"]) - 1 if found.get("UID_MIN", "").isdecimal() else 99
