# SPDX-License-Identifier: Apache-2.0
"""`refloat status --by`: who runs what."""

import json
from typing import Any

import pytest
from daemons import Daemon, Refloat

from refloat_contract.messages import NodeReport, Runs
from refloat_contract.words import Phase


def node(name: str, runs: Runs | None) -> dict[str, Any]:
    report = NodeReport(at=0, boot_id="b", phase=Phase.IN_SERVICE, since=1, runs=runs)
    return {"node": name, "online": True, "report": report, "slurm": None}


NEW = Runs(image="i2", kernel="6.2", versions={"slurm": "24.11"}, digest="d2")
OLD = Runs(image="i1", kernel="6.1", versions={"slurm": "24.05"}, digest="d1")
FLEET = [node("n1", OLD), *(node(f"n{n}", NEW) for n in (2, 3, 10)), node("n4", None)]


def asked(refloat: Refloat, daemon: Daemon, found: list[dict[str, Any]], *words: str) -> Any:
    async def status(_: dict[str, Any]) -> list[dict[str, Any]]:
        return found

    return refloat("status", *words, "--socket", daemon({"status": status}).path)


def test_nodes_are_grouped_most_first_with_what_differs(
    refloat: Refloat, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    ended = asked(refloat, daemon, FLEET, "--by", "image")

    lines = [" ".join(line.split()) for line in ended.out.splitlines() if line.strip()]
    assert ended.status == 1
    assert lines[2:] == [
        "i2 3 n[2-3,10]",
        "i1 1 n1 image i1 (most: i2); kernel 6.1 (most: 6.2); slurm 24.05 (most: 24.11)",
        "not told 1 n4",
    ]


@pytest.mark.parametrize(
    ("by", "values"),
    [("kernel", ["6.2", "6.1"]), ("digest", ["d2", "d1"]), ("slurm", ["24.11", "24.05"]), ("os", [""])],
)
def test_any_part_can_be_grouped_by(by: str, values: list[str], refloat: Refloat, daemon: Daemon) -> None:
    ended = asked(refloat, daemon, FLEET, "--by", by, "--json")

    assert [group["value"] for group in json.loads(ended.out) if group["known"]] == values
    assert ended.status == int(len(values) > 1)


@pytest.mark.parametrize("found", [[node("n4", None)], []])
def test_nodes_that_do_not_tell_are_unknown(found: list[dict[str, Any]], refloat: Refloat, daemon: Daemon) -> None:
    assert asked(refloat, daemon, found, "--by", "image").status == 3
