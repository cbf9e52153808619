# SPDX-License-Identifier: Apache-2.0
import random
import shutil
import subprocess
import time
from itertools import pairwise

import pytest

from refloat_checks.nhc.language import BadPattern
from refloat_checks.nhc.match import matches

BASH = shutil.which("bash")


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("n[0-9]*", ["n1", "n1.cluster"], ["n", "xn1", "N1"]),
        ("[]a]", ["]", "a"], ["b", "[]a]"]),
        ("[!]a]", ["b"], ["]", "a"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("[z-a]x", [], ["zx", "ax", "x"]),
        ("[[:nosuch:]a]", ["a"], ["n", "s"]),
        ("[a", ["[a"], ["a"]),
        (r"[\]]", ["]"], ["\\"]),
        (r"[a\-c]", ["a", "-", "c"], ["b"]),
        ("[[.-.]x]", ["-", "x"], ["."]),
        ("[[=a=]b]", ["a", "b"], ["="]),
        (r"a\\b", ["a\\b"], ["a\\\\b"]),
        ("a\\", ["a\\"], ["a"]),
        ("@(a|b*)c", ["ac", "bxxc"], ["c", "abc"]),
        ("+([[:digit:]])", ["1", "123"], ["", "1a"]),
        ("@(!(login*))", ["n1", ""], ["login1"]),
        ("n!(1|2)", ["n3", "n", "n12"], ["n1", "n2"]),
        ("@(!(!(a)))", ["a"], ["b", ""]),
        ("@(a", ["@(a"], ["a"]),
        ("*(ab|c)", ["", "abcab"], ["a"]),
        ("*@(|b)", ["ab", "b"], ["a", ""]),  # after a star bash matches no empty text
        ("*!(a)", ["", "b", "ba"], ["a"]),
        ("a(b)", ["a(b)"], ["ab"]),
        ("/^[^]a]$/", ["b"], ["]", "a"]),
        ("/^[]a-]+$/", ["a-]"], ["b"]),
        ("/a{,2}b/", ["b", "aab"], ["a"]),
        ("/^(a{2}){2}$/", ["aaaa"], ["aaa"]),
        ("/^a**$/", ["", "aa"], ["b"]),
        ("/a|/", ["", "b"], []),
        ("/^()$/", [""], ["a"]),
        ("/a)/", ["a)"], ["a"]),
        ("/a$b/", [], ["ab", "a$b"]),
        ("/^(a|b)\\1$/", ["aa", "bb"], ["ab"]),
        ("/\\<foo\\>/", ["a foo b"], ["food", "afoo"]),
        ("/^\\w+\\W\\w+$/", ["a b"], ["ab"]),
        ("/\\Bx/", ["ax"], ["x", " x"]),
        ("/^\\n$/", ["n"], ["\n"]),
        ("/^[\\n]$/", ["n", "\\"], ["\n"]),
        ("/^.$/", ["\n", "x"], [""]),
        ("{n[1-10]}", ["n01", "n10"], ["n1", "n001"]),
        ("{n[1-9],x}", ["n1"], ["x"]),
        ("{,n1}", [], ["n1"]),
        ("{n1,}", ["n1"], ["n2"]),
        ("{}", [], ["", "n1"]),
        ("{n[001-100]}", ["n5-4"], ["n5-a-", "n0x4", "n5.4"]),
        ("{n[0-9]\\.ib}", ["n1.ib"], ["n1xib"]),
        ("", [""], ["a"]),
        ("!", ["a"], [""]),
    ],
)
def test_patterns_match_what_nhc_matches(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [text for text in yes if not matches(pattern, text)] == []
    assert [text for text in no if matches(pattern, text)] == []
    if pattern[:1] != "!":
        assert [text for text in yes if matches("!" + pattern, text)] == []
        assert [text for text in no if not matches("!" + pattern, text)] == []


@pytest.mark.parametrize(
    ("pattern", "column", "what"),
    [
        ("/a(b/", 3, "'(' is never closed"),
        ("/a[b/", 3, "'[' is never closed"),
        ("/[[:alpha:]/", 2, "'[' is never closed"),
        ("/*a/", 2, "nothing that '*' could repeat"),
        ("/a|*/", 4, "nothing that '*'"),
        ("/^*/", 3, "nothing that '*'"),
        ("/(?i)a/", 3, "nothing that '?'"),
        ("/a{2/", 3, "{3}, {3,} or {3,5}"),
        ("/a{x}/", 3, "{3}, {3,} or {3,5}"),
        ("/a{}/", 3, "{3}, {3,} or {3,5}"),
        ("/a{3,2}/", 3, "greater than the second"),
        ("/a{99999}/", 3, "more than 32767"),
        ("/[z-a]/", 3, "runs backwards"),
        ("/[[:nosuch:]]/", 3, "no class [:nosuch:]"),
        ("/[[.ab.]]/", 3, "no collating symbol"),
        ("/[a-[:digit:]]/", 4, "a class cannot end a range"),
        ("/[a-c-e]/", 6, "a '-' stands for itself"),
        ("/a\\/", 3, "escapes nothing"),
        ("/(a\\1)/", 4, "no group 1"),
        ("!/[/", 3, "'[' is never closed"),
        ("/", 1, "lone slash"),
        ("!/", 2, "lone slash"),
        ("{login}", 2, "'login' is no node"),
        ("{n1,n[1-2,4]}", 5, "'n[1-2' is no node"),
        ("!{login}", 3, "'login' is no node"),
        ("a[[:alpha]", 3, "'[:' is never closed"),
        ("a@(b|[[.xy.]])", 7, "'xy' is not known"),
        ("[![=a=]]", 3, "negated bracket"),
    ],
)
def test_what_means_nothing_is_an_error_that_names_the_column(pattern: str, column: int, what: str) -> None:
    with pytest.raises(BadPattern) as raised:
        matches(pattern, "x", strict=True)

    assert (raised.value.pattern, raised.value.column) == (pattern, column)
    assert what in raised.value.what
    # NHC's own answer: no match, and with ! a match; but for a lone slash, which ends its function at once.
    assert matches(pattern, "x") is (pattern.startswith("!") and pattern != "!/")


@pytest.mark.parametrize(
    "pattern", ["/(a*)*b/", "/^(a|aa)+$/", "*a*a*a*a*a*a*b", "+(a|+(a))b", "!(*a*a*a*b)", "/a*a*a*a*a*b/"]
)
def test_no_pattern_takes_exponential_time(pattern: str) -> None:
    started = time.process_time()

    matches(pattern, "a" * 400 + "c")

    assert time.process_time() - started < 2


ERE_PARTS = [
    *"abc.*+?()|[]{}^$-12,:=_ ",
    *("\\b", "\\w", "\\<", "\\>", "\\B", "\\W", "\\s", "\\.", "\\", "[[:alpha:]]", "[^", "[a-c]", "{1,2}"),
    *("(a|b)", "(ab)*", "[^ab]", "(a|bc){1,2}", "(b*)+", ".*", "(.)", "(a*)"),
]
# Together with \b and repetitions glibc itself errs about back-references.
BACK_REFERENCE_PARTS = [*"abc^$.", "(a|b)", "(a*)", "(.)", "\\1", "\\2", "b*", "(b|c)+", "(ab?)"]
GLOB_PARTS = [
    *"abc?[]!^()|-1x",
    *("@(a|b)", "+(ab|c)", "?(a)", "*(b|c)", "!(a)", "!(ab|c*)", "@(a|!(b))", "+(?(a)b)", "[!a]", "[a-b]", "@(|b)"),
    *("[[:alpha:]]", "[[:digit:]x]", "\\*", "\\\\", "+(", "@("),
]


def bash_answers(operator: str, cases: list[tuple[str, str]]) -> list[bool]:
    assert BASH is not None
    script = f'while IFS= read -rd "" p && IFS= read -rd "" t; do [[ $t {operator} $p ]]; echo $?; done'
    words = "".join(f"{pattern}\0{text}\0" for pattern, text in cases).encode()
    done = subprocess.run([BASH, "-c", script], input=words, capture_output=True, env={"LC_ALL": "C"}, check=True)
    return [line == b"0" for line in done.stdout.split()]


def is_bash_5_2() -> bool:
    if BASH is None:
        return False
    return subprocess.run([BASH, "-c", "[[ ${BASH_VERSION} == 5.2.* ]]"], check=False).returncode == 0


@pytest.mark.skipif(not is_bash_5_2(), reason="the answers are those of bash 5.2")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("operator", "parts"), [("=~", ERE_PARTS), ("=~", BACK_REFERENCE_PARTS), ("==", GLOB_PARTS)])
def test_thousands_of_patterns_match_what_bash_matches(operator: str, parts: list[str], seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - the same patterns each time
    cases = []
    for _ in range(2000):
        pattern = "".join(dice.choices(parts, k=dice.randint(1, 7)))
        if operator == "==" and dice.random() < 0.5:
            pattern = f"*{pattern}" if "!(" not in pattern and "@(|" not in pattern else pattern
        text = "".join(dice.choices("abc1_ .-[]\\x|", k=dice.randint(0, 6)))
        cases.append((pattern, text))

    wanted = bash_answers(operator, cases)

    wrong = []
    for (pattern, text), want in zip(cases, wanted, strict=True):
        # A slash or brace at the end, or a leading !, would be another kind of match string.
        if operator == "=~":
            got = matches(f"/{pattern}/", text)
        elif pattern[0] in "!{/":
            continue
        else:
            got = matches(pattern, text)
        if got is not want:
            wrong.append((pattern, text, want))
    assert wrong == []


def test_adding_a_star_never_takes_a_match_away() -> None:
    texts = ["", "a", "ab", "abc", "n01.ib"]
    patterns = ["a", "a?", "[ab]c", "@(a|ab)", "+(b)"]

    for pattern in patterns:
        for shorter, longer in pairwise([f"{pattern}", f"{pattern}*"]):
            assert [text for text in texts if matches(shorter, text) and not matches(longer, text)] == []
