# SPDX-License-Identifier: Apache-2.0
"""Files that are either the old or the new whole, also after a power cut."""

import contextlib
import os
from pathlib import Path

from refloat_contract.errors import Transient


def write(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace the contents of ``path``; when this returns they survive a power cut. Blocks: call it in a thread.

    One writer per path: the temporary file beside it has a fixed name, so that a crash leaves at most one behind.

    Raises:
        Transient: the file system said no (full, read-only, I/O error); ``path`` holds what it held before.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        _write_synced(temporary, data, mode)
        temporary.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise Transient(f"cannot write {path}: {error.strerror or error}") from error


def read(path: Path) -> bytes | None:
    """The contents of ``path``; None where there is no such file.

    Raises:
        Transient: there is one, but it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Transient(f"cannot read {path}: {error.strerror or error}") from error


def _write_synced(path: Path, data: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    # Without this the rename itself may be lost: fsync(2), "the entry in the directory containing the file".
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
