# SPDX-License-Identifier: Apache-2.0
"""Slurm's node table, read again and again: a record that says the same of its node is not taken apart again.

A record of scontrol is some 700 bytes, of which a few come and go with every read (load, free memory, when it was last
busy) and say nothing that a `NodeView` holds. With 10,000 nodes a read costs 30 ms instead of 250.
"""

from collections.abc import Iterator
from typing import Final

from refloat_slurm.answers import read_nodes
from refloat_slurm.gateway import NodeView

_NAME: Final = "NodeName="
# As scontrol begins a record; a comment may hold a newline, and text that looks like the begin of one.
_NEXT: Final = ("Arch=", "CpuBind=", "CoresPerSocket=")
# What a view is made of stands between the first two, and after the third; all else is numbers of Slurm's own.
_FROM, _TO, _REST = " State=", " LastBusyTime=", " AllocTRES="

_Told = tuple[str, str]


class NodeTable:
    """The last answer to ``scontrol -o show nodes``. What the next says nothing new of stays the same object."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[_Told, NodeView]] = {}

    def read(self, text: str) -> dict[str, NodeView]:
        """The views in an answer.

        Raises:
            Transient: a record is not understood, or there is none.
        """
        views: dict[str, NodeView] = {}
        known: dict[str, tuple[_Told, NodeView]] = {}
        for record in _records(text):
            name = record[len(_NAME) : record.find(" ")]
            told = _told(record)
            before = self._known.get(name)
            if told is not None and before is not None and before[0] == told:
                views[name], known[name] = before[1], before
                continue
            for view in read_nodes(record).values():
                views[view.name] = view
                if told is not None:
                    known[view.name] = told, view
        self._known = known
        return views


def _records(text: str) -> Iterator[str]:
    parts = iter(text.split(f"\n{_NAME}"))
    record = next(parts)
    for part in parts:
        if part[part.find(" ") + 1 :].startswith(_NEXT):
            yield f"{record}\n"
            record = f"{_NAME}{part}"
        else:
            record = f"{record}\n{_NAME}{part}"
    yield record


def _told(record: str) -> _Told | None:
    """What a record says of its node that may matter here; None where it is not written as expected."""
    begin = record.find(_FROM)
    end = record.find(_TO, begin)
    rest = record.find(_REST, end)
    return (record[begin:end], record[rest:]) if 0 < begin < end < rest else None
