# SPDX-License-Identifier: Apache-2.0
"""What both daemons are made of: settings, logs, MQTT, control socket, service notification."""
