# SPDX-License-Identifier: Apache-2.0
"""What the sentence of a hold means, and what to do about it: the shape of the two catalogues of such sentences."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hold:
    """A kind of sentence. ``pattern`` matches the whole of it; ``id`` stays as it is, for pages link to it."""

    id: str
    pattern: str
    example: str
    means: str
    do: str

    def is_about(self, sentence: str) -> bool:
        """Whether a sentence is of this kind."""
        return re.fullmatch(self.pattern, sentence, re.DOTALL) is not None


def find(catalogue: Sequence[Hold], sentence: str) -> Hold | None:
    """The first entry that a sentence is of; None if there is none: somebody wrote it by hand."""
    return next((entry for entry in catalogue if entry.is_about(sentence)), None)
