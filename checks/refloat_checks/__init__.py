# SPDX-License-Identifier: Apache-2.0
"""Health checks: facts in, findings out."""
