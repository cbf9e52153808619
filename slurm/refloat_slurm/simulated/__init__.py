# SPDX-License-Identifier: Apache-2.0
"""A simulated slurmctld: node states, reasons, registrations and jobs by the rules that were measured on real ones."""

from refloat_slurm.simulated.gateway import SimulatedGateway
from refloat_slurm.simulated.jobs import Harm, SimulatedJob
from refloat_slurm.simulated.nodes import Rules, Transition
from refloat_slurm.simulated.slurmctld import SimulatedSlurmctld, run

__all__ = ["Harm", "Rules", "SimulatedGateway", "SimulatedJob", "SimulatedSlurmctld", "Transition", "run"]
