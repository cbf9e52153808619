# SPDX-License-Identifier: Apache-2.0
"""Operators: what may be asked of the coordinator, over its control socket and over MQTT."""
