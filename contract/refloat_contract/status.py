# SPDX-License-Identifier: Apache-2.0
"""What one look at one check found: the one word that `nhc` needs of the vocabulary, which it loads at every run."""

from enum import StrEnum


class Status(StrEnum):
    """What one look at one check found. UNKNOWN never drains a node and never clears a drain."""

    OK = "OK"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"
