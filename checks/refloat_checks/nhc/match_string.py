# SPDX-License-Identifier: Apache-2.0
"""A match string and a bare glob as types of the configuration; apart, so that the `nhc` command loads no pydantic."""

from typing import Annotated

from pydantic import AfterValidator

from refloat_checks.nhc import globs
from refloat_checks.nhc.language import BadPattern
from refloat_checks.nhc.match import matches


def _meaningful(pattern: str) -> str:
    try:
        matches(pattern, "", strict=True)
    except BadPattern as error:
        raise ValueError(f"column {error.column}: {error.what}") from error
    return pattern


def _readable(glob: str) -> str:
    try:
        globs.parse(glob)
    except BadPattern as error:
        raise ValueError(f"column {error.column}: {error.what}") from error
    return glob


# One that means nothing is an error in the configuration, and no silent "no match".
MatchString = Annotated[str, AfterValidator(_meaningful)]
Glob = Annotated[str, AfterValidator(_readable)]
