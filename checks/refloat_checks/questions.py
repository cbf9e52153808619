# SPDX-License-Identifier: Apache-2.0
"""Questions for a probe helper, as data: many of them can be put at once, and put again in the next pass."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from refloat_checks.probed import Attributes, Examination, Usage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """What to look at, what that is about (a path, or with ``is_of_path=False`` a key), and how to read the answer.

    Whoever asks it twice does no more than whoever asks it once.
    """

    look: str
    about: str
    arguments: tuple[object, ...]
    parse: Callable[[Any], T]
    is_of_path: bool = True


def usage_of(path: str) -> Question[Usage]:
    """Ask for space and inodes of the filesystem that holds a path."""
    return Question("statvfs", path, (path,), _usage)


def examination_of(path: str) -> Question[Examination]:
    """Ask for all that stat and access say of a path; that nothing is there is no error."""
    return Question("examine", path, (path,), _examination)


def content_of(path: str, cap_bytes: int) -> Question[bytes]:
    """Ask for the first bytes of a file."""
    return Question("read", path, (path, cap_bytes, True), _content)


def user_name_of(uid: int) -> Question[str]:
    """Ask for a user's name, or the number as it is if it has none."""
    return Question("user_name", f"user {uid}", (uid,), str, is_of_path=False)


def group_name_of(gid: int) -> Question[str]:
    """Ask for a group's name, or the number as it is if it has none."""
    return Question("group_name", f"group {gid}", (gid,), str, is_of_path=False)


def _usage(said: Mapping[str, int]) -> Usage:
    return Usage(**said)


def _examination(said: Mapping[str, Any]) -> Examination:
    itself, target = (Attributes(**each) if each else None for each in (said["itself"], said["target"]))
    return Examination(itself, target, said["access"], said["errno"])


def _content(said: str) -> bytes:
    return said.encode("latin-1")
