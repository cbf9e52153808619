# SPDX-License-Identifier: Apache-2.0
"""The processors that an agent keeps to. Each process has its own, so this is looked at in one of its own."""

import json
import os
import subprocess
import sys

import pytest

from refloat_contract.errors import Misconfigured
from refloat_service import affinity

PROGRAM = """
import asyncio, json, os, sys
from refloat_service import affinity, commands

TELL = [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"]

async def tell():
    told = [await commands.run(TELL, deadline_s=20, pinned=pinned) for pinned in (True, False)]
    thread = await asyncio.to_thread(os.sched_getaffinity, 0)
    return [json.loads(each.stdout) for each in told] + [sorted(thread), sorted(os.sched_getaffinity(0))]

affinity.pin(affinity.parse(sys.argv[1]))
print(json.dumps(asyncio.run(tell())))
"""
THERE = sorted(os.sched_getaffinity(0))


def _told(cpus: str) -> list[list[int]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, cpus],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    told: list[list[int]] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_helpers_and_threads_keep_to_them_and_what_is_started_for_others_does_not() -> None:
    one = THERE[-1]

    assert _told(f"{one},60000") == [[one], THERE, [one], [one]]


def test_where_none_of_them_is_there_all_are_used() -> None:
    assert _told("60000-60001") == [THERE] * 4


@pytest.mark.parametrize(("text", "cpus"), [("0", {0}), ("0,64", {0, 64}), ("1-3, 8", {1, 2, 3, 8})])
def test_a_list_is_written_as_the_kernel_does(text: str, cpus: set[int]) -> None:
    assert affinity.parse(text) == cpus


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,", "-1", "0-99999999"])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match="is no list of processors"):
        affinity.parse(text)
