# SPDX-License-Identifier: Apache-2.0
"""Images: what a node calls the one that it runs, and whether that is the one that was asked for."""

import re

_COMMIT = re.compile(r"[0-9a-f]{7,64}")


def image_id(release: str) -> str:
    """The image id in the text of ``/etc/image-release``: the words of its first line, joined by dashes.

    Build pipelines write the reference and the commit there: ``compute 3f2a1c0d…`` becomes ``compute-3f2a1c0d…``.
    """
    lines = release.strip().splitlines()
    return "-".join(lines[0].split()) if lines else ""


def is_image(wanted: str, booted: str) -> bool:
    """Whether ``booted`` is the image wanted; a commit may be abbreviated to 7 hex digits or more, as git does."""
    if wanted == booted:
        return True
    abbreviated = _COMMIT.fullmatch(wanted.rpartition("-")[2]) is not None
    return abbreviated and booted.startswith(wanted) and _COMMIT.fullmatch(booted.rpartition("-")[2]) is not None
