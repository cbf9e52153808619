# SPDX-License-Identifier: Apache-2.0
"""Tell processes apart by their titles: the first word, the whole line, a part of it, or a daemon's own form of it."""

from __future__ import annotations

from collections.abc import Callable

from refloat_checks.nhc import globs
from refloat_checks.nhc.language import matcher
from refloat_checks.nhc.match import compiled

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Final

Fits = Callable[[str], bool]
_SSHD: Final = "sshd"


def by_line(pattern: str) -> Fits:
    """Compare whole titles with a match string."""
    return compiled(pattern)


def by_word(pattern: str, daemon: str = "") -> Fits:
    """Compare first words with a match string.

    With a daemon's name also those that it gives itself, with a colon behind its name, count as its own.
    """
    fits = compiled(pattern)
    known: dict[str, bool] = {}  # of a thousand processes many have the same first word

    def fits_title(title: str) -> bool:
        word = title.partition(" ")[0]
        if word not in known:
            known[word] = fits(word)
        return known[word] or (bool(daemon) and word[-1:] == ":" and _is_of(title, fits, daemon))

    return fits_title


def by_part(glob: str) -> Fits:
    """Look for a glob anywhere in titles. Raises BadPattern for one that cannot be read."""
    return matcher(globs.parse(glob), anywhere=True)


def _is_of(title: str, fits: Fits, daemon: str) -> bool:
    return fits(title.partition(": ")[0]) and not is_session(title, daemon)


def is_session(title: str, daemon: str) -> bool:
    """Tell whether a title such as `sshd: alice [priv]` is one session's, and not the daemon's.

    The daemon's own is as in `sshd: /usr/sbin/sshd -D [listener]`.
    """
    word, _, rest = title.partition(" ")
    return daemon == _SSHD and word.endswith(":") and not (rest.startswith("/") or "[listener]" in rest)
