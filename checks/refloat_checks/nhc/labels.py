# SPDX-License-Identifier: Apache-2.0
"""What a line of an nhc.conf is called among the checks of a node: its check, and what it looks at."""

from __future__ import annotations

from itertools import pairwise

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Final

_CAP: Final = 60  # room for `#12`, under the 64 characters that the name of a check may have
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_FIT: Final = frozenset(_LETTERS + "_.:/@-")
_OF_A_PROGRAM: Final = frozenset(_LETTERS + "_.-")
_WITH_VALUE: Final = frozenset({"-s", "-t", "-o", "-O", "-e", "-E", "-m", "-M", "-u", "-g", "-U", "-G", "-d", "-D"})
_BY_LAST: Final = frozenset({"check_hw_eth", "check_hw_gm", "check_ps_service", "check_net_ping"})


def label(name: str | None, words: Sequence[str], number: int) -> str:
    """Name a line by its check and its subject, as in `check_fs_free:/scratch`; without a check by its number."""
    program = (name or "").rpartition("/")[2]
    if program[:1] not in _LETTERS or not program or not _OF_A_PROGRAM.issuperset(program):
        return f"line-{number}"
    subject = _fitted(_subject(program, words))
    return f"{program}:{subject}"[:_CAP] if subject else program[:_CAP]


def _fitted(text: str) -> str:
    """Put a line where characters are that do not fit, one for all that stand together."""
    if _FIT.issuperset(text):
        return text
    pairs = zip("_" + text, text, strict=False)
    return "".join(after if after in _FIT else "_" * (before in _FIT) for before, after in pairs)


def unique(labels: Iterable[str]) -> Iterator[str]:
    """Number the labels that come again."""
    seen: dict[str, int] = {}
    for each in labels:
        seen[each] = seen.get(each, 0) + 1
        yield each if seen[each] == 1 else f"{each}#{seen[each]}"


def _subject(program: str, words: Sequence[str]) -> str:
    if program == "check_net_socket":
        return _after(words, "-n")
    if program in _BY_LAST:
        return words[-1] if words else ""
    if program == "check_ps_daemon":
        return words[0] if words else ""
    if program == "check_file_test":  # whose options are all flags
        return next((word for word in words if word.startswith("/")), "")
    if program.startswith(("check_fs_", "check_file_")):
        return _after(words, "-f") or _after(words, "-F") or _path(words)
    return ""


def _after(words: Sequence[str], option: str) -> str:
    found = [after for word, after in pairwise(words) if word == option]
    return found[0] if found and not found[0].startswith("-") else ""


def _path(words: Sequence[str]) -> str:
    before = ["", *words]
    paths = [word for last, word in zip(before, words, strict=False) if word[:1] == "/" and last not in _WITH_VALUE]
    return paths[0] if paths else ""
