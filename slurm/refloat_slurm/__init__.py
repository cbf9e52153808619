# SPDX-License-Identifier: Apache-2.0
"""Slurm: the gateway Protocol and its backends."""
