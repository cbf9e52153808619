# SPDX-License-Identifier: Apache-2.0
import json
import time
from typing import Any

from daemons import Daemon, Refloat

from refloat_service.control import Handler


def incident(**other: Any) -> dict[str, Any]:
    return {
        "id": "b1",
        "check": "lustre",
        "opened_at": time.time() - 9020,
        "nodes": ["n1", "n2", "n3"],
        "of": 20,
        "closed_at": 0.0,
        "closed_by": "",
        "failing": ["n1", "n3"],
        **other,
    }


def holder(node: str, why: str, ago_s: float) -> dict[str, Any]:
    return {"node": node, "why": why, "since": time.time() - ago_s}


def answer(**other: Any) -> dict[str, Any]:
    holders = [
        holder("n1", "permit: reboot, wave w1", 7220),
        holder("n2", "permit: reboot, wave w1", 7220),
        holder("n9", "down: bad DIMM", 91000),
    ]
    return {
        "limits": [
            {"limit": "cluster", "allowed": 4, "used": 3, "word": "out", "holders": holders},
            {"limit": "rack r1", "allowed": 2, "used": 2, "word": "out", "holders": holders[:2]},
            {"limit": "rack r2", "allowed": 2, "used": 0, "word": "out", "holders": []},
        ],
        "one_at_a_time": "",
        "incidents": [],
        "warnings": ["groups: /etc/racks:3: no group"],
        **other,
    }


def answers(answer: Any, asked: list[dict[str, Any]] | None = None) -> Handler:
    async def handle(arguments: dict[str, Any]) -> Any:
        if asked is not None:
            asked.append(arguments)
        return answer

    return handle


def lines_of(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_every_limit_in_use_is_shown_with_its_holders(refloat: Refloat, daemon: Daemon) -> None:
    ended = refloat("budget", "--socket", daemon({"budget": answers(answer())}).path)

    lines = lines_of(ended.out)
    assert ended.status == 0
    assert "warning: groups: /etc/racks:3: no group" in lines
    assert "cluster 3 out 4 n9 1d01h down: bad DIMM" in lines
    assert "n[1-2] 2h00m permit: reboot, wave w1" in lines
    assert "rack r1 2 out 2 n[1-2] 2h00m permit: reboot, wave w1" in lines
    assert lines[-1] == "limits that nobody uses now: 1 (--all shows them)"


def test_all_limits_can_be_shown_and_told_as_json(refloat: Refloat, daemon: Daemon) -> None:
    told_now = answer(incidents=[incident()])
    socket = daemon({"budget": answers(told_now)}).path
    every, told = refloat("budget", "--all", "--socket", socket), refloat("budget", "--json", "--socket", socket)

    assert "rack r2 0 out 2" in lines_of(every.out)
    assert any(line.startswith("b1 lustre") for line in lines_of(every.out))
    assert every.status == told.status == 1
    assert json.loads(told.out)["limits"] == told_now["limits"]


def test_incidents_are_listed(refloat: Refloat, daemon: Daemon) -> None:
    closed = incident(id="b0", closed_by="alice", closed_at=time.time(), failing=[])
    some = refloat("breaker", "list", "--socket", daemon({"breaker_list": answers([closed, incident()])}).path)

    lines = lines_of(some.out)
    assert some.status == 1
    assert any(line.startswith("b0 lustre") and "3 of 20 closed by alice after 2h30m n[1-3]" in line for line in lines)
    assert any("open for 2h30m, fails on 2 now" in line for line in lines)


def test_no_incident_is_good(refloat: Refloat, daemon: Daemon) -> None:
    ended = refloat("breaker", "list", "--socket", daemon({"breaker_list": answers([])}).path)

    assert (ended.status, ended.out) == (0, "no incident is known\n")


def test_an_incident_is_closed_by_its_id(refloat: Refloat, daemon: Daemon) -> None:
    asked: list[dict[str, Any]] = []
    ended = refloat("breaker", "close", "b1", "--socket", daemon({"breaker_close": answers(incident(), asked)}).path)

    assert ended.status == 0
    assert ended.out == "incident b1 (lustre) closed\n"
    assert asked == [{"id": "b1"}]
