# SPDX-License-Identifier: Apache-2.0
"""Which events somebody asks for: by node, kind, check and wave; pure."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass

from refloat_contract.errors import Misconfigured
from refloat_contract.messages import Event
from refloat_contract.words import EventKind


@dataclass(frozen=True, slots=True)
class EventFilter:
    """An empty set fits all."""

    nodes: frozenset[str] = frozenset()
    kinds: frozenset[EventKind] = frozenset()
    checks: frozenset[str] = frozenset()
    waves: frozenset[str] = frozenset()

    def fits(self, event: Event) -> bool:
        """Whether an event is asked for."""
        return (
            (not self.nodes or event.node in self.nodes)
            and (not self.kinds or event.kind in self.kinds)
            and (not self.checks or event.check in self.checks)
            and (not self.waves or event.wave in self.waves)
        )


def kinds(names: Collection[str]) -> frozenset[EventKind]:
    """The kinds of these names; ``-`` will do for ``_``.

    Raises:
        Misconfigured: there is no such kind; the sentence names the nearest one, and all.
    """
    known = {str(kind): kind for kind in EventKind}
    found = set()
    for name in names:
        word = name.strip().lower().replace("-", "_")
        if word not in known:
            near = difflib.get_close_matches(word, known, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise Misconfigured(f"kind: no event is a {name!r}{meant} (known: {', '.join(known)})")
        found.add(known[word])
    return frozenset(found)
