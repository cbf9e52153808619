# SPDX-License-Identifier: Apache-2.0
"""The node side of the simulated slurmctld: registrations, and what silence leads to."""

from typing import Final

from refloat_slurm.simulated.agenda import Agenda
from refloat_slurm.simulated.jobs import JobQueue
from refloat_slurm.simulated.nodes import SLURM, NodeTable, SimulatedNode

BOOT_JITTER_S: Final = 2
"""Registrations of one boot differ by so much: boot time is now minus whole seconds of uptime."""


class Registrar:
    """Takes registrations and notices silence."""

    def __init__(self, table: NodeTable, agenda: Agenda, jobs: JobQueue) -> None:
        self._table = table
        self._agenda = agenda
        self._jobs = jobs
        self._rules = table.rules

    def silence(self, node: SimulatedNode) -> None:
        """From now on slurmd does not answer."""
        node.answering = False
        self.watch(node)

    def watch(self, node: SimulatedNode) -> None:
        """Start the timers of a silent node: NOT_RESPONDING, then DOWN."""
        node.silences += 1
        silence = node.silences
        self._agenda.after(self._rules.not_responding_s, lambda: self._missed(node, silence))
        self._agenda.after(self._rules.slurmd_timeout_s, lambda: self._lost(node, silence))

    def expect(self, node: SimulatedNode) -> None:
        """Force a registration, as RESUME does: silent and without a boot time until it comes."""
        node.forgotten = True
        node.marks.add("NOT_RESPONDING")
        if node.answering:
            self._agenda.after(self._rules.answer_s, lambda: self._answer(node))
        else:
            self.watch(node)

    def register(self, node: SimulatedNode, boot_time: int, slurmd_start_time: int) -> None:
        """Slurmd has started and registers."""
        rebooted = boot_time > node.boot_time + BOOT_JITTER_S
        node.answering, node.forgotten = True, False
        node.silences += 1
        node.boot_time, node.slurmd_start_time = boot_time, slurmd_start_time
        node.marks.discard("NOT_RESPONDING")
        # Slurmd tells which jobs it has; those that are dead are found out even if the boot is not.
        if rebooted or any(job.harmed for job in node.jobs.values()):
            self._jobs.kill(node, "the node rebooted")
        self._settle(node, rebooted=rebooted)
        self._table.note(node)

    def _answer(self, node: SimulatedNode) -> None:
        if node.answering and node.forgotten:
            self.register(node, node.boot_time, node.slurmd_start_time)

    def _settle(self, node: SimulatedNode, *, rebooted: bool) -> None:
        if node.reboot is not None and node.reboot.issued:
            if rebooted:
                self._end_reboot(node)
        elif node.base == "DOWN":
            if self._returns(node, rebooted=rebooted):
                node.base = "IDLE"
                if "DRAIN" not in node.marks:
                    self._table.clear_reason(node)
        elif rebooted and "DRAIN" not in node.marks and self._rules.return_to_service != 2:  # noqa: PLR2004 - as in slurm.conf
            node.base = "DOWN"
            # A stale reason stays: slurmctld gives its own only where there is none.
            if not node.reason:
                self._table.set_reason(node, "Node unexpectedly rebooted", SLURM)

    def _returns(self, node: SimulatedNode, *, rebooted: bool) -> bool:
        match self._rules.return_to_service:
            case 2:
                return True
            case 1:
                return node.reason == "Not responding" and not rebooted
            case _:
                return False

    def _end_reboot(self, node: SimulatedNode) -> None:
        reboot, node.reboot = node.reboot, None
        node.marks -= {"REBOOT_REQUESTED", "REBOOT_ISSUED"}
        if reboot is None:
            return
        if reboot.next_state == "DOWN":
            self._table.append_reason(node, "reboot complete")
            return
        node.base = "IDLE"
        # nextstate=RESUME takes an administrator's drain away as well.
        if reboot.own_drain or reboot.next_state == "RESUME":
            node.marks.discard("DRAIN")
            self._table.clear_reason(node)

    def _missed(self, node: SimulatedNode, silence: int) -> None:
        if node.silences == silence:
            node.marks.add("NOT_RESPONDING")
            self._table.note(node)

    def _lost(self, node: SimulatedNode, silence: int) -> None:
        # A reboot by scontrol has its own time limit; a node that is DOWN keeps its reason.
        if node.silences != silence or node.base == "DOWN" or (node.reboot is not None and node.reboot.issued):
            return
        node.base = "DOWN"
        node.marks.add("NOT_RESPONDING")
        if self._rules.appends_not_responding or not node.reason:
            self._table.append_reason(node, "Not responding")
        self._jobs.kill(node, "the node did not respond")
        self._table.note(node)
