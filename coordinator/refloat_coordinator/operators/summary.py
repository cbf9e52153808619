# SPDX-License-Identifier: Apache-2.0
"""How many nodes are how: those that are alike together, folded; pure."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from refloat_contract.messages import NodeReport, SlurmView
from refloat_contract.words import Phase
from refloat_coordinator import hostlists

_UNINTERESTING: Final = frozenset({"PLANNED"})
_BUSY: Final = frozenset({"IDLE", "ALLOCATED", "MIXED", "COMPLETING"})


def groups(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The nodes of ``status`` by phase, verdict, state, image and why, most first; jobs make no difference."""
    members: dict[tuple[str, ...], list[str]] = {}
    for one in found:
        members.setdefault(_key(one["report"], one["slurm"], is_online=one["online"]), []).append(one["node"])
    most_first = sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        {
            "phase": phase,
            "verdict": verdict,
            "slurm": slurm,
            "image": image,
            "agent": agent,
            "why": why,
            "count": len(nodes),
            "nodes": hostlists.fold(nodes),
        }
        for (phase, verdict, slurm, image, agent, why), nodes in most_first
    ]


def _key(report: NodeReport | None, view: SlurmView | None, *, is_online: bool) -> tuple[str, ...]:
    slurm = _state(view)
    if report is None:
        return ("", "", slurm, "", "none", _reason(view))
    agent = "online" if is_online else "away"
    failing = ", ".join(failure.check for failure in report.failing)
    # A held node says why in a sentence of its own, others by what fails: what names a node folds nothing.
    why = report.why if report.phase is Phase.HELD else failing or _reason(view)
    return (report.phase, report.verdict, slurm, report.image, agent, why)


def _state(view: SlurmView | None) -> str:
    if view is None or not view.known:
        return "unknown"
    rest = sorted(set(view.flags) - _UNINTERESTING - _BUSY)
    return "+".join(rest) or "in use or idle"


def _reason(view: SlurmView | None) -> str:
    shows = view is not None and not {"DRAIN", "DOWN", "FAIL"}.isdisjoint(view.flags)
    return view.reason if shows and view is not None else ""
