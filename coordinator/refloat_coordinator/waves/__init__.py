# SPDX-License-Identifier: Apache-2.0
"""Waves: what moves one, what each of its nodes is at, and what it will take; pure."""
