# SPDX-License-Identifier: Apache-2.0
"""Which checks slurmd waits for at boot: those of the profile `boot`, but for those that look at slurmd themselves."""

import re
from collections.abc import Iterable
from typing import Any, Final

from refloat_checks.api import Profile, Severity
from refloat_checks.registry import CheckSpec

_SLURMD: Final = re.compile(r"\bslurmd\b")


def is_awaited(spec: CheckSpec) -> bool:
    """Whether the boot gate waits for this check: one that looks at slurmd could not pass before slurmd starts."""
    return spec.severity is Severity.DRAIN and spec.is_in(Profile.BOOT) and not names_slurmd(spec)


def names_slurmd(spec: CheckSpec) -> bool:
    """Whether a check names slurmd, in its own name or in what it looks at."""
    return any(_SLURMD.search(text) for text in _texts([spec.name, spec.limits.model_dump()]))


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts([*value, *value.values()])
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _texts(each)
