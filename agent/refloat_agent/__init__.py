# SPDX-License-Identifier: Apache-2.0
"""The node agent: one daemon per compute node."""

import refloat_service.lean  # noqa: F401 - first, before anything imports structlog
