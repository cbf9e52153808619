# SPDX-License-Identifier: Apache-2.0
"""The forms of NHC's checks of mounts, filesystems and files."""

import re
from collections.abc import Callable, Sequence
from typing import Final

from refloat_checks.nhc.arithmetic import evaluate
from refloat_checks.nhc.checks import mounting
from refloat_checks.nhc.checks.options import Options
from refloat_checks.nhc.forms.form import (
    Converted,
    Form,
    NoForm,
    Table,
    accepted,
    count,
    given,
    one,
    options,
    severity,
    size,
)

_ONE_OPTION: Final = re.compile(r"(!?)/\(\^\|,\)([\w.=:-]+)\(\$\|,\)/")
_TYPES: Final = {
    "b": "block",
    "c": "char",
    "d": "directory",
    "f": "file",
    "h": "symlink",
    "L": "symlink",
    "p": "fifo",
    "S": "socket",
}
_BITS: Final = {"g": 0o2000, "k": 0o1000, "u": 0o4000}
_SECONDS: Final = {
    "N": "changed_within_s",
    "O": "changed_before_s",
    "n": "max_age_s",
    "o": "min_age_s",
}


def _mount(words: Sequence[str]) -> Converted:
    wanted = accepted(mounting.read_words(words, "mount"))
    if max(len(wanted.sources), len(wanted.types)) > 1:
        raise NoForm("more than one match string for the source or the type")
    found = [_ONE_OPTION.fullmatch(pattern) for pattern in wanted.options]
    others = [pattern for pattern, option in zip(wanted.options, found, strict=True) if option is None]
    if len(others) > 1:
        raise NoForm("more than one match string for all options")
    rest: Table = {
        "source": "".join(wanted.sources),
        "fstype": "".join(wanted.types),
        "options": [f"{option[1]}{option[2]}" for option in found if option is not None],
        "options_match": "".join(others),
        "severity": severity(is_fatal=wanted.is_fatal),
    }
    tables = [given({"type": "mount", "path": point, **rest}) for point in wanted.points]
    tables += [given({"type": "mount", "path": point, "automount": True, **rest}) for point in wanted.automounted]
    if not tables:
        raise NoForm("it names no mount point")
    acts = ((wanted.remount, "-r"), (wanted.action, "-e"), (wanted.found_action, "-E"))
    return Converted(tuple(tables), tuple(letter for is_asked, letter in acts if is_asked))


def _mount_rw(words: Sequence[str]) -> Converted:
    return _mount(mounting.with_options(words, mounting.READ_WRITE))


def _mount_ro(words: Sequence[str]) -> Converted:
    return _mount(mounting.with_options(words, mounting.READ_ONLY))


def _space(read: Callable[[str], str | None], *keys: str) -> Callable[[Sequence[str]], Converted]:
    def convert(words: Sequence[str]) -> Converted:
        point, *limits = words or [""]
        table = {key: read(text) for key, text in zip(keys, limits, strict=False) if text}
        if not table:
            raise NoForm("it compares nothing")
        return one({"type": "filesystem", "path": point, **table})

    return convert


def _file_contents(words: Sequence[str]) -> Converted:
    path, *patterns = words or [""]
    if not patterns:
        raise NoForm("it looks for nothing")
    return one({"type": "file", "path": path, "lines": patterns})


def _file_test(words: Sequence[str]) -> Converted:
    flags = [word[1:] for word in words if word.startswith("-") and word != "-!"]
    names = [word for word in words if not word.startswith("-")]
    if not flags or not names:
        raise NoForm("it names no test, or no file")
    if "-!" in words:
        if len(names) > 1 or len(flags) > 1 or flags[0] not in {"a", "e"}:
            raise NoForm("-! asks that one of several tests be false")
        return one({"type": "file", "path": names[0], "exists": False})
    tests = _tests(flags)
    return Converted(tuple(given({"type": "file", "path": name, **tests}) for name in names))


def _tests(flags: Sequence[str]) -> Table:
    types = {_TYPES[flag] for flag in flags if flag in _TYPES}
    if len(types) > 1 or (types == {"symlink"} and len(flags) > 1):
        raise NoForm("a file that is of one type is not of another")
    if "t" in flags:
        raise NoForm("-t asks for a terminal")
    bits = sum({_BITS[flag] for flag in flags if flag in _BITS})
    return {
        "is_a": "".join(types),
        "mode_has": f"{bits:04o}" if bits else None,
        "access": "".join(flag for flag in "rwx" if flag in flags),
        "min_size": "1" if "s" in flags else None,
        "unread": True if "N" in flags else None,
        "owner": "root" if "O" in flags else None,
        "group": "root" if "G" in flags else None,
    }


def _file_stat(words: Sequence[str]) -> Converted:
    read = options("check_file_stat", ":D:G:M:N:O:T:U:d:g:m:n:o:t:u:", words)
    if not read.rest:
        raise NoForm("it names no file")
    if (read.has("u") and read.has("U")) or (read.has("g") and read.has("G")):
        raise NoForm("the owner by number and by name")
    tests: Table = {
        "follow": False,
        "mode": _mode(read, "m"),
        "mode_has": _mode(read, "M"),
        "owner": read.last("u") or read.last("U"),
        "group": read.last("g") or read.last("G"),
        "device": _number(read, "D") if read.has("D") else _number(read, "d"),
        "major": _number(read, "t"),
        "minor": _number(read, "T"),
        **{key: _number(read, letter) for letter, key in _SECONDS.items()},
    }
    return Converted(tuple(given({"type": "file", "path": name, **tests}) for name in read.rest))


def _number(read: Options, letter: str) -> int | None:
    text = read.last(letter)
    value = evaluate(text) if text else None
    if text and value is None:
        raise NoForm(f"-{letter} {text}: not a number")
    return value


def _mode(read: Options, letter: str) -> str | None:
    value = _number(read, letter)
    return None if value is None else f"{value:04o}"


FORMS: Final = (
    Form("check_fs_mount", "check_fs_mount -s 'mds@o2ib:/work' -t lustre -o '/(^|,)flock($|,)/' /work", _mount),
    Form("check_fs_mount_rw", "check_fs_mount_rw -t 'nfs*' /home", _mount_rw),
    Form("check_fs_mount_ro", "check_fs_mount_ro -F /apps", _mount_ro),
    Form("check_fs_size", "check_fs_size /tmp 100G 1T", _space(size, "min_size", "max_size")),
    Form("check_fs_free", "check_fs_free /tmp 5%", _space(size, "min_free")),
    Form("check_fs_used", "check_fs_used / 98%", _space(size, "used_below")),
    Form("check_fs_inodes", "check_fs_inodes /tmp 1M", _space(count, "min_inodes", "max_inodes")),
    Form("check_fs_ifree", "check_fs_ifree /tmp 10k", _space(count, "min_free_inodes")),
    Form("check_fs_iused", "check_fs_iused / 95%", _space(count, "used_inodes_below")),
    Form("check_file_contents", "check_file_contents /etc/shells '*/bash' '!*/rksh'", _file_contents),
    Form("check_file_test", "check_file_test -f -r -s /etc/passwd", _file_test),
    Form("check_file_stat", "check_file_stat -m 0400 -U munge /etc/munge/munge.key", _file_stat),
)
