# SPDX-License-Identifier: Apache-2.0
"""Keep out of a daemon's memory what it does not need: thousands of nodes pay for every megabyte.

Import this module before anything that imports structlog: that takes rich along wherever it is installed, 4 MB, to draw
tracebacks for people at a terminal.
"""

import ctypes
import gc
import sys
from typing import Final

_RICH: Final = "rich"

if _RICH not in sys.modules and "structlog" not in sys.modules:
    sys.modules[_RICH] = None  # type: ignore[assignment]  # how Python is told that a module is not there
    import structlog  # noqa: F401 - only so that this is its first import

    del sys.modules[_RICH]


def give_back() -> None:
    """Give the memory that starting up took, and that is free again, back to the kernel; with glibc only."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
