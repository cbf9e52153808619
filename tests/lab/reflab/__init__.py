# SPDX-License-Identifier: Apache-2.0
"""A throw-away real Slurm cluster of stateless, really rebooting containers on one machine."""
