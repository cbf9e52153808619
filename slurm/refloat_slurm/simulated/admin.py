# SPDX-License-Identifier: Apache-2.0
"""The administrator's side of the simulated slurmctld: `scontrol update nodename=` and `scontrol reboot`."""

from collections.abc import Callable
from typing import Final

from refloat_contract.errors import Refused
from refloat_slurm.gateway import Change
from refloat_slurm.simulated.agenda import Agenda
from refloat_slurm.simulated.jobs import JobQueue
from refloat_slurm.simulated.nodes import SLURM, NodeTable, Reboot, SimulatedNode
from refloat_slurm.simulated.slurmd import Registrar

_INVALID_STATE: Final = "Invalid node state specified"
_RESUMABLE: Final = frozenset({"DRAIN", "FAIL", "REBOOT_ISSUED", "REBOOT_REQUESTED"})


class Administration:
    """Applies changes to nodes."""

    def __init__(
        self,
        table: NodeTable,
        agenda: Agenda,
        jobs: JobQueue,
        registrar: Registrar,
        on_reboot: Callable[[str], None],
    ) -> None:
        self._table = table
        self._agenda = agenda
        self._jobs = jobs
        self._registrar = registrar
        self._on_reboot = on_reboot

    def update(self, name: str, change: Change | None, reason: str | None, user: str) -> None:
        """Change state, reason or both."""
        node = self._table.find(name)
        before = node.flags
        match change:
            case Change.DRAIN:
                _need(reason)
                node.marks.add("DRAIN")
            case Change.DOWN:
                _need(reason)
                node.base = "DOWN"
                self._jobs.kill(node, "the node was set DOWN")
            case Change.RESUME:
                self._resume(node)
            case Change.UNDRAIN:
                self._undrain(node)
            case None:
                pass
        if reason and (reason != node.reason or node.flags != before):
            self._table.set_reason(node, reason, user)
            if not _is_marked(node):
                self._table.clear_reason(node)
        self._table.note(node)

    def _resume(self, node: SimulatedNode) -> None:
        if node.unknown or (node.base != "DOWN" and _RESUMABLE.isdisjoint(node.marks)):
            raise Refused(_INVALID_STATE)
        node.base = "IDLE"
        node.marks -= _RESUMABLE
        node.reboot = None
        self._return(node)

    def _undrain(self, node: SimulatedNode) -> None:
        if "DRAIN" in node.marks:
            node.marks.discard("DRAIN")
            self._return(node)

    def _return(self, node: SimulatedNode) -> None:
        if not _is_marked(node):
            self._table.clear_reason(node)
        # A node that works is known to be alive.
        if not node.jobs:
            self._registrar.expect(node)

    def reboot(self, name: str, *, asap: bool, next_state: str, reason: str, user: str) -> None:
        """Ask for a reboot by RebootProgram as soon as the node is idle; ``asap`` drains it."""
        node = self._table.find(name)
        if next_state not in {"", "RESUME", "DOWN"}:
            raise Refused(_INVALID_STATE)
        node.reboot = Reboot(next_state, own_drain=asap and "DRAIN" not in node.marks)
        node.marks.add("REBOOT_REQUESTED")
        if asap:
            node.marks.add("DRAIN")
        if reason:
            self._table.set_reason(node, reason, user)
        self._table.note(node)
        self._await_idle(node, node.reboot)

    def cancel_reboot(self, name: str) -> None:
        """Take a reboot back that has not been issued."""
        node = self._table.find(name)
        if node.reboot is None or node.reboot.issued:
            raise Refused(_INVALID_STATE)
        node.marks -= {"REBOOT_REQUESTED", *({"DRAIN"} if node.reboot.own_drain else ())}
        node.reboot = None
        node.reason, node.reason_user, node.reason_at = "", "", 0
        self._table.note(node)

    def _await_idle(self, node: SimulatedNode, reboot: Reboot) -> None:
        self._agenda.after(self._table.rules.reboot_issue_s, lambda: self._issue(node, reboot))

    def _issue(self, node: SimulatedNode, reboot: Reboot) -> None:
        if node.reboot is not reboot:
            return
        if node.jobs:
            self._await_idle(node, reboot)
            return
        reboot.issued = True
        node.base = "DOWN"
        node.marks.discard("REBOOT_REQUESTED")
        node.marks.add("REBOOT_ISSUED")
        # A reason that says so already is not extended, only signed anew.
        if node.reason.endswith("reboot issued"):
            self._table.set_reason(node, node.reason, SLURM)
        else:
            self._table.append_reason(node, "reboot issued")
        self._table.note(node)
        self._agenda.after(self._table.rules.resume_timeout_s, lambda: self._time_out(node, reboot))
        self._on_reboot(node.name)

    def _time_out(self, node: SimulatedNode, reboot: Reboot) -> None:
        if node.reboot is not reboot:
            return
        node.reboot = None
        node.marks.discard("REBOOT_ISSUED")
        node.marks.add("DRAIN")
        self._table.append_reason(node, "reboot timed out")
        self._table.note(node)


def _need(reason: str | None) -> None:
    if not reason:
        raise Refused("You must specify a reason when DOWNING or DRAINING a node")


def _is_marked(node: SimulatedNode) -> bool:
    """Whether the node is in a state that has a reason."""
    return node.base == "DOWN" or not _RESUMABLE.isdisjoint(node.marks)
