# SPDX-License-Identifier: Apache-2.0
"""Asks the agent of this node what the checks of a profile found: one question, and as few imports as it takes.

It runs before every job. Whatever is not this very question is left to the whole command line.
"""

from __future__ import annotations

import sys

from refloat_cli import agent_line

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

_DEADLINE_S: Final = 35.0


def quick(words: Sequence[str]) -> int | None:
    """Answer `--profile NAME [--max-age SECONDS] [--json]` by the agent; None: other words, or no agent answers."""
    asked = _parsed(words)
    if asked is None:
        return None
    answer = ask(asked["--profile"], float(asked["--max-age"]) if "--max-age" in asked else None)
    return None if answer is None else tell(answer, asked["--profile"], as_json="--json" in asked)


def _parsed(words: Sequence[str]) -> dict[str, str] | None:
    found: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if word == "--json":
            found[word] = ""
        elif name in {"--profile", "--max-age"}:
            found[name] = value if equals else next(rest, "")
        else:
            return None
    age = found.get("--max-age", "0").replace(".", "", 1)
    return found if found.get("--profile") and age.isdecimal() and age.isascii() else None


def ask(profile: str, max_age_s: float | None) -> dict[str, Any] | None:
    """What the agent says; None where none answers, or it does not know such a question."""
    return agent_line.ask("profile", {"profile": profile, "max_age_s": max_age_s}, _DEADLINE_S)


def tell(answer: Mapping[str, Any], profile: str, *, as_json: bool) -> int:
    """Print it, and give the exit status: what only warns is printed, and nothing else."""
    bad = answer["bad"]
    if as_json:
        import json  # noqa: PLC0415 - slow, and seldom asked for

        sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
    else:
        for each in bad:
            warns = " (only warns)" if each["severity"] == "warn" else ""
            sys.stdout.write(f"{each['status']}  {each['check']}: {each['message']}{warns}\n")
        sys.stdout.write(f"{profile}: {answer['good']} good, {len(bad)} not\n")
    return exit_status(bad)


def exit_status(bad: Sequence[Mapping[str, Any]]) -> int:
    """1 where a check that drains failed, 3 where one could not be looked at, else 0."""
    found = {each["status"] for each in bad if each["severity"] != "warn"}
    if "FAILED" in found:
        return 1
    return 3 if found else 0
