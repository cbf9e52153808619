"""Mount points: what is wrong, what is done about it, and who only observes does nothing."""

import pytest

from refloat_checks.mount_faults import Mounted
from refloat_checks.nhc.checks.mounting import Wanted, judge, parse_mounts, read_words
from refloat_checks.nhc.native import Command, MakeDirectory, NhcOutcome, Shell
from refloat_contract.records import replace

TABLE = parse_mounts(
    "/dev/sda1 / ext4 rw,relatime 0 0\nnfs:/s /scratch\\040one nfs ro,vers=4.2 0 0\n"
    "none /x tmpfs rw 0 0\nl /x lustre rw 0 0\n"
)


def wanted(*words: str) -> Wanted:
    read = read_words(words, "/bin/mount -v")
    assert isinstance(read, Wanted)
    return read


def test_the_last_mount_on_a_point_counts() -> None:
    assert TABLE["/x"] == Mounted("l", "lustre", "rw")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-t", "!nfs", "/scratch one"), "/scratch one has incorrect type nfs (should NOT match nfs)"),
        (("-o", "/(^|,)rw/", "/scratch one"), "/scratch one mount options incorrect (should match /(^|,)rw/)"),
        (("/gone",), "/gone not mounted"),
        (("-f/", "-f", "/gone"), "/gone not mounted"),
    ],
)
def test_what_is_wrong_is_said_in_nhcs_words(words: tuple[str, ...], message: str) -> None:
    outcome = judge(TABLE, wanted(*words), frozenset())

    assert (outcome.rc, outcome.message) == (1, f"check_fs_mount:  {message}")


def test_a_remount_is_asked_for_and_not_done() -> None:
    outcome = judge(
        TABLE, wanted("-r", "-O", "rw", "-o", "rw*", "-e", "wall 'no /s'", "-f", "/scratch one"), frozenset()
    )

    command = Command(("/bin/mount", "-v", "-o", "remount,rw", "/scratch one"))
    assert outcome.actions == (command, Shell("wall 'no /s'"))


def test_a_missing_directory_is_made_by_the_runner() -> None:
    outcome = judge(TABLE, wanted("-0", "-f", "/gone", "-f", "/gone2"), frozenset({"/gone"}))

    assert (outcome.rc, outcome.actions) == (0, (MakeDirectory("/gone"),))
    assert outcome.log == (
        "check_fs_mount:  /gone not mounted; directory /gone missing (auto-fixed) (non-fatal)",
        "check_fs_mount:  /gone2 not mounted (non-fatal)",
    )


def test_found_actions_are_for_what_is_found() -> None:
    outcome = judge(TABLE, replace(wanted("/"), found_action="true"), frozenset())

    assert (outcome.rc, outcome.actions) == (0, (Shell("true"),))


@pytest.mark.parametrize(
    ("words", "message"),
    [(("-z", "/"), "Invalid option:  -z"), (("-0f",), "Option -f requires an argument.")],
)
def test_bad_options_fail(words: tuple[str, ...], message: str) -> None:
    read = read_words(words, "mount")

    assert isinstance(read, NhcOutcome)
    assert read.message == f"check_fs_mount:  {message}"
