# SPDX-License-Identifier: Apache-2.0
import subprocess

import pytest

from refloat_checks.nhc import words

VARIABLES = {"HW_CORES": "4", "TWO": "a  b", "NONE": "", "PATH2": "/x:/y"}


def expanded(check: str) -> list[str] | None:
    command = words.parse(check)
    if command is None or command.assignments:
        return None
    found = [words.expand(word, VARIABLES.get) for word in command.words]
    return None if None in found else [each for word in found if word is not None for each in word]


PLAIN = [
    "check -f /",
    "check 'a b' \"c d\"  e\\ f",
    "check   'runs   of  blanks'",
    "check $((2*HW_CORES)) x$((HW_CORES+1))y",
    'check "$((2 * $HW_CORES))" ${HW_CORES}k $TWO "$TWO"',
    'check $NONE "$NONE" x$NONE end',
    'check \'/^(\\/dev\\/|x)$/\' "\\$HOME" "a\\b"',
    "check a#b # a comment's apostrophe",
    "check {n[01-10]} * ? [a-z]",
    "check a$ '$HW_CORES' \"a'b\"",
    "check a$TWO'c'",
]


@pytest.mark.parametrize("check", PLAIN)
def test_plain_words_are_those_that_bash_makes(check: str) -> None:
    script = 'set -f; check() { printf "%s\\0" check "$@"; }; CHECK=$1; eval $CHECK'
    done = subprocess.run(
        ["bash", "-c", script, "-", check], env={**VARIABLES, "PATH": "/usr/bin:/bin"}, capture_output=True, check=True
    )

    assert expanded(check) == done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize(
    "check",
    [
        "a | b",
        "a && b",
        "a; b",
        "a > /tmp/x",
        "a $(b)",
        "a `b`",
        "[[ -e /x ]]",
        "! a",
        "if a",
        "a /etc/{passwd,group}",
        "a ~/x",
        "a $1",
        "a $'x'",
        "a 'open",
        'a "open',
        "a ${X:-y}",
        "A=b c",
        "a \\",
        "$A b",
        "a=(b c)",
        "export -n A",
        "a $((b[1]))",
    ],
)
def test_what_needs_a_shell_is_left_to_one(check: str) -> None:
    assert words.parse(check) is None


def test_assignments_are_read_with_their_values() -> None:
    command = words.parse("A=1 B=$((2*HW_CORES)) C=\"x y\"'z' D=$TWO")

    assert command is not None
    values = {name: words.joined(word, VARIABLES.get) for name, word in command.assignments}
    assert values == {"A": "1", "B": "8", "C": "x yz", "D": "a  b"}
    assert set(words.names(command)) == {"HW_CORES", "TWO"}


def test_an_export_names_its_variables() -> None:
    command = words.parse("export A=1 B")

    assert command is not None
    assert command.exports == ("A", "B")
    assert [name for name, _ in command.assignments] == ["A"]


def test_a_sum_over_what_is_no_number_is_left_to_bash() -> None:
    command = words.parse("check $((2*X))")

    assert command is not None
    assert words.expand(command.words[1], {"X": "a[$(touch /tmp/x)]"}.get) is None
    assert words.expand(command.words[1], lambda _: None) == ["0"]
