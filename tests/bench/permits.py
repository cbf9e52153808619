# SPDX-License-Identifier: Apache-2.0
"""What it costs to answer permits: thousands ask in one turn of the coordinator's loop, on its real ledger.

Writes build/bench/permits.json. The clock runs from the first request that the loop takes to the last answer that it
posts; saving to SQLite, with fsync, is in it.
"""

import argparse
import asyncio
import json
import logging
import platform
import re
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import structlog

from refloat_contract.messages import Failure, NodeReport, NodeStatus, Order, Request, SlurmView, decode, encode
from refloat_contract.reasons import Dialect
from refloat_contract.topics import Kind, Topics
from refloat_contract.words import OrderKind, Phase, Purpose, RequestKind, Verdict
from refloat_coordinator.bus import Inbox
from refloat_coordinator.clock import SteadyClock
from refloat_coordinator.fleet import Read
from refloat_coordinator.loop import Loop, Ports
from refloat_coordinator.permits.boots import BootRule
from refloat_coordinator.permits.breaker import Trip
from refloat_coordinator.permits.budget import Amount, Limit
from refloat_coordinator.permits.rules import Rules
from refloat_coordinator.record.ledger import open_ledger
from refloat_service.mqtt import Publication

BUILD: Final = Path(__file__).parents[2] / "build" / "bench" / "permits.json"
TOPICS: Final = Topics("bench")
RACK: Final = re.compile(r"(r\d+)n\d+")


def names(count: int) -> list[str]:
    """Racks of 40 nodes."""
    return [f"r{number // 40 + 1}n{number % 40 + 1}" for number in range(count)]


def rules(share: int) -> Rules:
    """A cluster limit, one for each rack and each partition, and boots rack by rack."""
    return Rules(
        fixed=(Limit("cluster", Amount(share, percent=True)),),
        per_group={"rack": Amount(max(50, share), percent=True), "partition": Amount(share, percent=True)},
        boot=BootRule(at_once=Amount(100), per="rack"),
        patterns=(("rack", RACK),),
        told={},
    )


def failing(node: str) -> NodeStatus:
    """An agent's status of a node whose check fails."""
    report = NodeReport(
        at=2.0,
        boot_id="b",
        phase=Phase.IN_SERVICE,
        since=1.0,
        verdict=Verdict.UNHEALTHY,
        failing=(Failure(check="lustre", message="stale"),),
    )
    return NodeStatus(node=node, online=True, report=report)


def asking(node: str) -> Request:
    """A request for a health drain."""
    return Request(
        id=f"q-{node}",
        node=node,
        kind=RequestKind.PERMIT,
        purpose=Purpose.HEALTH,
        cycle=f"h-{node}",
        cause="lustre",
        at=3.0,
    )


async def measure(nodes: int, requests: int, share: int, percent: int) -> dict[str, Any]:
    """One turn in which so many ask; ``share`` per cent may be out, ``percent`` is the breaker's."""
    clock, posted, every = SteadyClock(), list[Publication](), names(nodes)
    with tempfile.TemporaryDirectory() as folder:
        ledger, epoch = await open_ledger(Path(folder) / "ledger")
        async with ledger:
            inbox = Inbox(clock, lambda: None)
            ports = Ports(ledger, clock, posted.append, lambda: None)
            loop = Loop(ports, inbox, TOPICS, epoch=epoch, limits=(), dialect=Dialect(), trip=Trip(percent))
            loop.rule(rules(share))
            views = tuple(SlurmView(node=name, epoch=epoch, seq=1, flags=("IDLE",)) for name in every)
            loop.observe(Read(clock.now(), views))
            await loop.step()
            posted.clear()
            spread = every[:: max(1, nodes // requests)][:requests]
            for name in spread:
                inbox.receive(TOPICS.node(name, Kind.STATUS), encode(failing(name)), lambda: None)
            for name in spread:
                inbox.receive(TOPICS.node(name, Kind.REQUEST), encode(asking(name)), lambda: None)
            began, cpu = time.perf_counter(), time.process_time()
            while len(inbox):
                await loop.step()
            took, used = time.perf_counter() - began, time.process_time() - cpu
    return {"nodes": nodes, "requests": requests, "seconds": round(took, 3), "cpu_s": round(used, 3), **counted(posted)}


def counted(posted: list[Publication]) -> dict[str, int]:
    """How many were granted and denied."""
    orders = [decode(Order, one.payload) for one in posted if one.topic.endswith("/order")]
    granted = sum(order.kind is OrderKind.GRANT for order in orders)
    return {"granted": granted, "denied": len(orders) - granted}


def cases() -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Each with its nodes, requests, share that may be out, and the breaker's per cent."""
    for nodes, requests in ((1500, 750), (10_000, 1000), (10_000, 5000)):
        yield f"{nodes} nodes, {requests} ask, all may go", (nodes, requests, 100, 0)
        yield f"{nodes} nodes, {requests} ask, 10 % may go", (nodes, requests, 10, 0)
        yield f"{nodes} nodes, {requests} ask, one incident", (nodes, requests, 10, 5)


def main() -> int:
    """Measure all, print and write them."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    found: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine(), "cases": {}}
    for name, case in cases():
        found["cases"][name] = asyncio.run(measure(*case))
        print(f"{name:45} {found['cases'][name]}")
    found["max_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    BUILD.parent.mkdir(parents=True, exist_ok=True)
    BUILD.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
