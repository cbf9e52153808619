# SPDX-License-Identifier: Apache-2.0
"""Nodes at the shipped broker: how long until all have shown their certificates, and what the broker takes for it.

`make bench-broker` (ARGS=10000). All connect at once, as after a restart of the broker, from this one machine, which so
does the clients' half of the cryptography for all of them: on a cluster each node does its own.
"""

import asyncio
import json
import resource
import ssl
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import mosquitto
import psutil

from refloat_cli.pki.authority import Role

PLACE: Final = Path("build/bench/broker.json")
_AT_ONCE: Final = 100
_KEEPALIVE_S: Final = 600


def main() -> None:
    """Measure, print and write the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 4096,) * 2)
    argv = mosquitto.command()
    if argv is None:
        sys.exit("there is no mosquitto here")
    with tempfile.TemporaryDirectory(prefix="bench-broker-") as folder, mosquitto.a_site(Path(folder), argv) as site:
        names = [f"node{number}" for number in range(count)]
        began = time.monotonic()
        site.store.issue(Role.NODE, names, datetime.now(UTC), 30, progress=lambda all_of, _: all_of)
        found: dict[str, Any] = {"nodes": count, "issue_s": round(time.monotonic() - began, 1)}
        found |= asyncio.run(connected(site, names))
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    PLACE.write_text(json.dumps(found, indent=2) + "\n")
    sys.stdout.write(json.dumps(found) + "\n")


async def connected(site: mosquitto.Site, names: list[str]) -> dict[str, Any]:
    """Connect all of them, and hold them."""
    broker = next(each for each in psutil.Process().children() if each.is_running())
    before_kb, turns = broker.memory_info().rss // 1024, asyncio.Semaphore(_AT_ONCE)
    began, spent = time.monotonic(), sum(broker.cpu_times()[:2])
    writers = await asyncio.gather(*(connect(site, name, turns) for name in names))
    took = time.monotonic() - began
    figures = {
        "all_in_s": round(took, 1),
        "broker_cpu_s": round(sum(broker.cpu_times()[:2]) - spent, 1),
        "broker_cpu_ms_each": round((sum(broker.cpu_times()[:2]) - spent) * 1000 / len(names), 2),
        "broker_rss_mb": round(broker.memory_info().rss / 2**20),
        "broker_kb_each": round((broker.memory_info().rss // 1024 - before_kb) / len(names), 1),
    }
    for writer in writers:
        writer.transport.abort()
    return figures


async def connect(site: mosquitto.Site, name: str, turns: asyncio.Semaphore) -> asyncio.StreamWriter:
    """One node, logged in: MQTT 3.1.1, by hand, since ten thousand real clients would measure themselves."""
    async with turns:
        context = ssl.create_default_context(cafile=site.store.folder / "ca.pem")
        issued = site.store.issued_folder / name
        context.load_cert_chain(f"{issued}.pem", f"{issued}.key")
        reader, writer = await asyncio.open_connection("localhost", site.broker.port, ssl=context)
        body = b"\x00\x04MQTT\x04\x02" + _KEEPALIVE_S.to_bytes(2, "big") + len(name).to_bytes(2, "big") + name.encode()
        writer.write(bytes([0x10, len(body)]) + body)
        answer = await reader.readexactly(4)
        if answer != b"\x20\x02\x00\x00":
            raise SystemExit(f"{name} was not let in: {answer!r}")
        return writer


if __name__ == "__main__":
    main()
