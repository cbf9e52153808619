# SPDX-License-Identifier: Apache-2.0
"""Files that hold a secret: read only where nobody else can read them, and never quoted."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from refloat_contract.errors import Misconfigured

CREDENTIALS: Final = "$CREDENTIALS_DIRECTORY"
"""What a path may begin with: the folder where systemd puts what a unit names in LoadCredential=."""

_CAP_BYTES: Final = 64 * 1024


def locate(path: Path, key: str, env: Mapping[str, str] = os.environ) -> Path:
    """The path itself, or that of the credential which ``$CREDENTIALS_DIRECTORY/NAME`` stands for.

    Raises:
        Misconfigured: a credential is named, but the service manager has given none.
    """
    if path.parts[:1] != (CREDENTIALS,):
        return path
    folder = env.get(CREDENTIALS[1:])
    if not folder:
        name = Path(*path.parts[1:])
        raise Misconfigured(
            f"{key}: {path} needs systemd's credentials, and none were given: put "
            f"LoadCredential={name}:/etc/refloat/{name} into the unit, or name the file itself"
        )
    return Path(folder, *path.parts[1:])


def check(path: Path, key: str) -> None:
    """See that nobody but root, this user and this user's groups can read ``path``.

    Raises:
        Misconfigured: somebody else can, or it is no file that can be read.
    """
    os.close(_opened(path, key))


def read(path: Path, key: str) -> str:
    """The text of ``path``, without the line end that editors add.

    Raises:
        Misconfigured: it cannot be read, is no text, or can be read by others.
    """
    with os.fdopen(_opened(path, key), "rb") as file:
        data = file.read(_CAP_BYTES + 1)
    if len(data) > _CAP_BYTES:
        raise Misconfigured(f"{key}: {path} is larger than any secret ({_CAP_BYTES} bytes)")
    try:
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        # Not from the error: it holds the bytes.
        raise Misconfigured(f"{key}: cannot read {path}: not UTF-8 text") from None


def _opened(path: Path, key: str) -> int:
    try:
        # Not to hang on a FIFO; what is looked at is what is read, whatever becomes of the name.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise Misconfigured(f"{key}: cannot read {path}: {error.strerror}") from error
    wrong = fault(os.fstat(handle), os.geteuid(), {os.getegid(), *os.getgroups()})
    if wrong:
        os.close(handle)
        raise Misconfigured(f"{key}: {path} {wrong}")
    return handle


def fault(found: os.stat_result, uid: int, groups: set[int]) -> str:
    """What is wrong with a file as the keeper of a secret of the user ``uid``; empty: nothing. Pure."""
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if found.st_uid not in {0, uid}:
        return f"belongs to uid {found.st_uid}, who can read it: chown root and chmod 600 it"
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o007:
        return f"can be used by everybody (mode {mode:04o}): chmod 600 it"
    # Root's group: systemd shows the access list of a credential as its bits. Our own: Kubernetes gives secrets so.
    if mode & 0o070 and found.st_gid not in {0, *groups}:
        return f"can be used by group {found.st_gid} (mode {mode:04o}), which is not ours: chmod 600 it"
    return ""
