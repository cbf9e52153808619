# SPDX-License-Identifier: Apache-2.0
"""Tell processes apart by their titles: the first word, the whole line, a part of it, or a daemon's own form of it."""

from __future__ import annotations

from collections.abc import Callable

from refloat_checks.nhc import globs
from refloat_checks.nhc.language import matcher
from refloat_checks.nhc.match import compiled

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Final

    from refloat_checks.process_titles import Title

Fits = Callable[[str], bool]
_SSHD: Final = "sshd"


def by_line(pattern: str) -> Fits:
    """Compare whole titles with a match string."""
    return compiled(pattern)


def by_word(pattern: str) -> Fits:
    """Compare first words with a match string."""
    fits = compiled(pattern)
    return lambda title: fits(title.partition(" ")[0])


def with_line(titles: Mapping[str, Iterable[Title]], pattern: str) -> Iterator[Title]:
    """Find those that fit a match string, among titles sorted by their first words."""
    fits = compiled(pattern)
    return (each for alike in titles.values() for each in alike if fits(each.title))


def with_word(titles: Mapping[str, Iterable[Title]], pattern: str, daemon: str = "") -> Iterator[Title]:
    """Find those whose first word fits a match string, among titles sorted by their first words.

    With a daemon's name also those that it gives itself, with a colon behind its name, count as its own.
    """
    fits = compiled(pattern)
    for word, alike in titles.items():
        if fits(word):
            yield from alike
        elif daemon and word[-1:] == ":":
            yield from (each for each in alike if _is_of(each.title, fits, daemon))


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
