"""Files: what they are, whose, how old, and what stands in them."""

import os
import pwd
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from refloat_checks.nhc.checks.file_contents import judge, lines
from refloat_checks.nhc.native import NhcOutcome
from refloat_contract.words import Status

Ask = Callable[..., Awaitable[NhcOutcome]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of mode 0640, written at second 1000."""
    path = tmp_path / "a file"
    path.write_text("one\ntwo\\\nthree\nlast")
    path.chmod(0o640)
    os.utime(path, (2000, 1000))
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-m", "0640"), ""),
        (("-m", "640"), "has permissions 0640; should be 640"),
        (("-M", "0400"), ""),
        (("-M", "0002"), "has permissions 0640; should be at least 0002"),
        (("-u", "99"), f'UID is "{os.geteuid()}"; should be "99"'),
        (("-U", "nobody"), f'username is "{pwd.getpwuid(os.geteuid()).pw_name}"; should be "nobody"'),
        (("-t", "1", "-T3"), "has device major number 0x0; should be 1"),
        (("-n", "60"), "mtime is not newer than 60s"),
        (("-o", "60"), ""),
        (("-o", "99"), "mtime is not older than 99s"),
    ],
)
async def test_what_stat_says_is_compared(ask: Ask, file: Path, words: tuple[str, ...], message: str) -> None:
    outcome = await ask("check_file_stat", *words, str(file), clock=lambda: 1090.5)

    wanted = f'check_file_stat:  File "{file}" {message}' if message else ""
    assert (outcome.rc, outcome.message) == (1 if message else 0, wanted)


async def test_a_link_is_looked_at_itself(ask: Ask, file: Path) -> None:
    (file.parent / "link").symlink_to("nowhere")

    assert (await ask("check_file_stat", "-m", "0777", str(file.parent / "link"))).rc == 0
    assert (await ask("check_file_stat", str(file.parent / "nowhere"))).message.endswith("nowhere) returned 1:  ")


async def test_a_mode_that_is_no_octal_number_is_a_configuration_error(ask: Ask, file: Path) -> None:
    assert (await ask("check_file_stat", "-m", "0699", str(file))).status is Status.UNKNOWN
    assert (await ask("check_file_stat", "-m", "0699", str(file), strict=True)).rc == 0


@pytest.mark.parametrize(
    ("flags", "name", "rc"),
    [
        (("-f", "-r", "-s"), "a file", 0),
        (("-d",), "", 0),
        (("-x",), "a file", 1),
        (("-L",), "link", 0),
        (("-e",), "link", 1),
        (("-!", "-e"), "link", 0),
        (("-!", "-e"), "a file", 1),
        (("-N",), "a file", 1),
        (("-O", "-G"), "a file", 0),
    ],
)
async def test_files_are_tested(ask: Ask, file: Path, flags: tuple[str, ...], name: str, rc: int) -> None:
    (file.parent / "link").symlink_to("nowhere")

    assert (await ask("check_file_test", *flags, str(file.parent / name))).rc == rc


async def test_a_name_with_blanks_is_one_name_but_in_strict_mode(ask: Ask, file: Path) -> None:
    assert (await ask("check_file_test", "-e", str(file), strict=True)).message.endswith("a file returned 2.")


async def test_an_empty_name_is_unknown(ask: Ask) -> None:
    assert (await ask("check_file_test", "-e", "")).status is Status.UNKNOWN


@pytest.mark.parametrize("words", [("-q", "/"), ("-e",), ("/",)])
async def test_bad_arguments_of_file_test_fail(ask: Ask, words: tuple[str, ...]) -> None:
    assert (await ask("check_file_test", *words)).message.startswith("check_file_test:  Syntax error:  ")


def test_lines_are_read_as_the_shell_reads_them() -> None:
    assert lines(" one \ntwo\\\nthree\nla\\st") == ["one", "twothree", "last"]


async def test_the_last_line_is_seen_without_a_line_end(ask: Ask, file: Path) -> None:
    assert (await ask("check_file_contents", str(file), "!last")).rc == 1
    assert (await ask("check_file_contents", str(file), "!last", strict=True)).rc == 0


async def test_a_file_that_cannot_be_read_passes_only_in_strict_mode(ask: Ask, file: Path) -> None:
    gone = str(file.parent / "gone")

    assert (await ask("check_file_contents", gone, "!x")).status is Status.UNKNOWN
    assert (await ask("check_file_contents", gone, "!x", strict=True)).rc == 0
    assert (await ask("check_file_contents", gone, "x")).message == (
        f'check_file_contents:  File "{gone}" failed to match "x".'
    )


async def test_a_match_string_that_means_nothing_is_a_configuration_error(ask: Ask, file: Path) -> None:
    assert (await ask("check_file_contents", str(file), "!/(/")).status is Status.UNKNOWN
    assert (await ask("check_file_contents", str(file), "!/(/", strict=True)).rc == 0


async def test_a_large_file_is_unknown_and_not_half_read(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * ((4 << 20) + 1))

    assert (await ask("check_file_contents", str(tmp_path / "large"), "!y")).status is Status.UNKNOWN


def test_the_first_missing_pattern_is_named() -> None:
    assert judge("f", ["a", "b"], ["b", "c", "!d", "e"]).message == (
        'check_file_contents:  File "f" matched 2/4 patterns.  First failed match:  "c".'
    )
