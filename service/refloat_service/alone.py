# SPDX-License-Identifier: Apache-2.0
"""One process at a time: a lock file that the kernel lets go when its holder ends, however it ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from refloat_contract.errors import Misconfigured


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold ``path`` locked; the file stays, its lock does not outlive this process.

    Raises:
        Misconfigured: another process holds it, or the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Misconfigured(f"lock file: cannot make {path}: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise Misconfigured(f"already running: another process holds {path}") from error
    try:
        yield
    finally:
        os.close(handle)
