# SPDX-License-Identifier: Apache-2.0
"""Metrics: what the coordinator knows as numbers, and the small HTTP server that tells them."""
