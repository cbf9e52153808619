# SPDX-License-Identifier: Apache-2.0
"""Permits: who may take a node out of service now, and the budgets, groups and limits that say so; pure."""
