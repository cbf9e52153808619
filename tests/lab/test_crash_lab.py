# SPDX-License-Identifier: Apache-2.0
"""The real agent killed, and the real node's power cut, at the boundaries of a cycle: it ends right.

A few of them by default; all of them with REFLOAT_CRASH=all (`make crash-lab`).
"""

import os
from collections.abc import Iterator

import pytest
from crashlab import Death, Trip, boundaries, campaign, crash_lab
from reflab import host
from reflab.cluster import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3600)]

ALL = os.environ.get("REFLOAT_CRASH") == "all"
NODES = 4
SAMPLE = 4
MARGIN = 4
"""The agent looks once more or less often from one cycle to the next."""


@pytest.fixture(scope="module")
def crashing() -> Iterator[Lab]:
    """A lab of agents that die where they are told to."""
    if why := host.obstacle():
        pytest.skip(why)
    with crash_lab("crash", NODES, dying=True) as lab:
        yield lab


@pytest.fixture(scope="module")
def length(crashing: Lab) -> int:
    """How many boundaries a cycle has."""
    return boundaries(crashing, "n1")


@pytest.mark.parametrize("how", Death)
def test_a_cycle_ends_right_wherever_its_node_dies(crashing: Lab, length: int, how: Death) -> None:
    points = range(1, length + MARGIN + 1) if ALL else range(2, length - MARGIN, length // SAMPLE)

    trips = campaign(crashing, [(how, point) for point in points], _tell)

    reached = [trip for trip in trips if trip.where]
    assert [str(trip) for trip in trips if trip.wrong] == []
    assert len(reached) >= len(points) - (2 * MARGIN if ALL else 0)
    print(f"{how}: {len(reached)} of about {length} boundaries of a cycle; all ended right")


def _tell(trip: Trip) -> None:
    print(trip, flush=True)
