# SPDX-License-Identifier: Apache-2.0
"""What mkdocs is told beside mkdocs.yml: the pages that lie at the top of the checkout, and links out of docs/."""

import posixpath
import re
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_TOP: Final = Path(__file__).parent.parent
_PAGES: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
_LINK: Final = re.compile(r"(?P<text>\[[^\]]*\])\((?P<path>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the top, under names of their own."""
    for name, page in _PAGES.items():
        if (_TOP / name).exists():
            files.append(File.generated(config, page, content=(_TOP / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs calls it so
    """Turn links to where the site has what they point to; what it does not have is named, and not linked to."""
    names = {there: here for here, there in _PAGES.items()}
    source = names.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def turned(found: re.Match[str]) -> str:
        path, anchor = found["path"], found["anchor"] or ""
        if not path or "://" in path:
            return found[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        there = _PAGES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else "")
        if there and files.get_file_from_path(there):
            return f"{found['text']}({there}{anchor})"
        if target.startswith("docs/"):
            return found[0]  # mkdocs says that it is broken
        return f"{found['text'][1:-1]} (`{target}`)" if f"`{target}`" not in found["text"] else found["text"][1:-1]

    return _LINK.sub(turned, markdown)
