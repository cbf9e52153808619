# SPDX-License-Identifier: Apache-2.0
"""Every link of the documents leads somewhere: to a file of the checkout, and to a heading in it."""

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
DOCUMENTS = sorted(
    path
    for path in (*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md"), *(CHECKOUT / "tests").rglob("README.md"))
)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def links(text: str) -> list[str]:
    """What is linked to, outside of code."""
    return [link for link in _LINK.findall(_CODE.sub("", _FENCED.sub("", text))) if "://" not in link]


def anchors(text: str) -> set[str]:
    """The headings as a link names them: the rule of GitHub and of Python-Markdown's toc, where the two agree."""
    headings = _HEADING.findall(_FENCED.sub("", text))
    slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings]
    return {*slugs, *(re.sub(r"-+", "-", slug) for slug in slugs)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(CHECKOUT).as_posix())
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in links(document.read_text()):
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)

    assert broken == []


def test_a_broken_link_is_seen() -> None:
    text = "See [this](a.md#b) and `[not this](c.md)`\n\n```\n[nor this](d.md)\n```\n\n## What `is` said: here\n"

    assert links(text) == ["a.md#b"]
    assert anchors(text) == {"what-is-said-here"}
