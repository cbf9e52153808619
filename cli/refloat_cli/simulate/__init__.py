# SPDX-License-Identifier: Apache-2.0
"""`refloat simulate`: a wave in virtual time. What decides is real; Slurm, the machines and the clock are not."""
