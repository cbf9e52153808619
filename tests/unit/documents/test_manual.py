# SPDX-License-Identifier: Apache-2.0
"""The manual pages: what is written in them is what groff understands, and nothing of a command line is left out."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[3] / "docs"
sys.path.insert(0, str(DOCS))

import roff  # noqa: E402 - found in docs/ only now


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not here")
def test_groff_has_nothing_to_say_about_any_page() -> None:
    pages = sorted(map(str, (DOCS / "man").iterdir()))
    done = subprocess.run(["groff", "-ww", "-man", "-z", *pages], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert len(pages) > 15


def test_text_that_looks_like_a_request_is_text() -> None:
    page = roff.Page("x", 1, "1")
    page.paragraph(".so /etc/passwd is no request, nor is \\n")

    assert page.lines[-1] == "\\&.so /etc/passwd is no request, nor is \\en"


def test_what_is_typed_can_be_copied() -> None:
    assert roff.inline("Say `--json` to [it](x.md) → twice") == "Say \\fB\\-\\-json\\fR to it \\[u2192] twice"


def test_a_table_becomes_items() -> None:
    page = roff.Page("x", 5, "1")
    page.markdown("| key | type | default | what |\n|---|---|---|---|\n| `a_s` | number | `1` | a \\| b |\n")

    assert page.lines[-3:] == [".TP", "\\fBa_s\\fR (number, default \\fB1\\fR)", "a | b"]


def test_examples_keep_their_lines() -> None:
    page = roff.Page("x", 5, "1")
    page.markdown("Thus:\n\n```toml\n[a]\n\nb = 1\n```\nend\n")

    assert [line for line in page.lines if line in {"[a]", "", "b = 1"}] == ["[a]", "", "b = 1"]
