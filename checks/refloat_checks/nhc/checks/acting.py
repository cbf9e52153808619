# SPDX-License-Identifier: Apache-2.0
"""The words `ignore`, `log`, `syslog`, `die` and `kill` behind a check: what it does about what it finds."""

from __future__ import annotations

from refloat_checks.nhc.native import Action, NhcOutcome, failed, passed

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence


def react(name: str, text: str, words: Sequence[str], kill: Action | None = None) -> NhcOutcome:
    """Do what the words say, in order, up to `die` or `ignore`; without any, die."""
    log: list[str] = []
    syslog: list[str] = []
    actions: list[Action] = []
    for word in " ".join(words).split() or ["die"]:
        if word == "ignore":
            break
        if word == "die":
            wrong = failed(name, text, actions=tuple(actions))
            return NhcOutcome(wrong.rc, wrong.message, wrong.status, wrong.actions, tuple(log), tuple(syslog))
        if word == "log":
            log.append(f"{name}:  {text}")
        elif word == "syslog":
            syslog.append(f"{name}:  {text}")
        elif word == "kill" and kill is not None:
            actions.append(kill)
    return passed(actions=tuple(actions), log=tuple(log), syslog=tuple(syslog))
