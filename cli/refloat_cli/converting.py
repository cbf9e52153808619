# SPDX-License-Identifier: Apache-2.0
"""What `refloat config convert` prints: an nhc.conf as `[[check]]` tables, each of which the agent would take."""

from dataclasses import replace
from pathlib import Path

from refloat_checks import registry
from refloat_checks.nhc.forms import file
from refloat_checks.nhc.forms.file import LineForm
from refloat_contract.errors import Misconfigured


def convert(path: Path) -> list[LineForm]:
    """Give the form of each line. Raises Misconfigured for a file that cannot be read."""
    try:
        text = path.read_bytes().decode(errors="surrogateescape")
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}") from error
    return [_checked(form) for form in file.convert(text)]


def _checked(form: LineForm) -> LineForm:
    """Take a form back whose limits mean nothing, such as a load that must be below 0."""
    try:
        registry.build(form.tables)
    except Misconfigured as error:
        return replace(form, tables=(), left_out=(), why_not=str(error).replace("\n", "; "))
    return form
