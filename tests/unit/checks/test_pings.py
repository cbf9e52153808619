# SPDX-License-Identifier: Apache-2.0
"""Pings by both kinds of sockets, in a network namespace of the test's own, where the kernel is told which it gives."""

import asyncio
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from refloat_checks.pings import IcmpSocket, NotAllowed, Ping, checksum, ping

# v0 and v1 are a cable; 10.9.9.2 and fd00:9::2 are thought to be at its end, where nobody answers to these names.
NETWORK = """
ip link set lo up
ip link add v0 type veth peer name v1
ip link set v0 up
ip link set v1 up
ip addr add 10.9.9.1/24 dev v0
ip addr add fd00:9::1/64 dev v0 nodad
ip neigh add 10.9.9.2 lladdr 02:00:00:00:00:09 dev v0
ip neigh add fd00:9::2 lladdr 02:00:00:00:00:09 dev v0
"""
NOBODY = "1 0"
ROOT = "0 0"


async def asked(hosts: list[str]) -> dict[str, Any]:
    """Who answers, all asked at once; and of what type the sockets are."""

    async def one(host: str) -> bool:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return await ping(family, host, Ping(count=3, interval_s=0.02, ttl=2, deadline_s=0.5))

    kinds = []
    for family in (socket.AF_INET, socket.AF_INET6):
        place = IcmpSocket.open(family)
        kinds.append(place.link.type.name)
        place.link.close()
    found = await asyncio.gather(*(one(host) for host in hosts))
    return {"kinds": kinds, "answers": dict(zip(hosts, found, strict=True))}


def in_namespace(group_range: str, hosts: list[str]) -> dict[str, Any]:
    """Ask in a network namespace that has hosts and holes."""
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("needs ip and unshare")
    become = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    made = subprocess.run(["unshare", *become, "--net", "true"], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("no network namespace may be made here")
    program = f"{sys.executable} {__file__} {' '.join(hosts)}"
    script = f"set -e\n{NETWORK}\necho '{group_range}' >/proc/sys/net/ipv4/ping_group_range\nexec {program}\n"
    argv = ["unshare", *become, "--net", "sh", "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    if "Unknown device type" in done.stderr or "Operation not supported" in done.stderr:
        pytest.skip(f"this kernel has no veth: {done.stderr}")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(("group_range", "kind"), [(NOBODY, "SOCK_RAW"), (ROOT, "SOCK_DGRAM")])
def test_hosts_answer_or_do_not_by_either_kind_of_socket(group_range: str, kind: str) -> None:
    there, silent = ["127.0.0.1", "10.9.9.1", "::1", "fd00:9::1"], ["10.9.9.2", "fd00:9::2"]

    found = in_namespace(group_range, [*there, *silent, *there])

    assert found["kinds"] == [kind, kind]
    # A raw socket hears the replies to the others, too: whoever is silent must not live by them.
    assert found["answers"] == {**dict.fromkeys(there, True), **dict.fromkeys(silent, False)}


@pytest.fixture
def raw() -> Iterator[Callable[[socket.AddressFamily], IcmpSocket]]:
    """What is read as if it came from a raw socket; none is opened, for that takes root."""
    with socket.socket() as stand_in:
        yield lambda family: IcmpSocket(stand_in, family, is_raw=True, identifier=0x1234, cookie=b"c" * 16)


def reply(kind: int, identifier: int, data: bytes, number: int = 7) -> bytes:
    return struct.pack("!BBHHH", kind, 0, 0, identifier, number) + data


IP_HEADER = bytes([0x46]) + bytes(23)  # with options: six words


@pytest.mark.parametrize(
    ("message", "number"),
    [
        (reply(0, 0x1234, b"c" * 16 + bytes(40)), 7),
        (reply(0, 0x1235, b"c" * 16 + bytes(40)), None),
        (reply(0, 0x1234, b"d" * 16 + bytes(40)), None),
        (reply(0, 0x1234, b"c" * 15), None),
        (reply(8, 0x1234, b"c" * 16 + bytes(40)), None),
        (b"\0\0", None),
        (b"", None),
    ],
)
def test_a_raw_socket_takes_the_replies_to_its_own_requests_only(
    raw: Callable[[socket.AddressFamily], IcmpSocket], message: bytes, number: int | None
) -> None:
    six, four = raw(socket.AF_INET6), raw(socket.AF_INET)
    of_six = bytes([129 if message[:1] == b"\0" else 128]) + message[1:]

    assert four.answered(IP_HEADER + message, 56) == number
    assert six.answered(of_six, 56) == number
    assert four.answered(b"", 56) is None


def test_a_request_without_room_for_a_cookie_is_known_by_its_name(
    raw: Callable[[socket.AddressFamily], IcmpSocket],
) -> None:
    assert raw(socket.AF_INET).answered(IP_HEADER + reply(0, 0x1234, b""), 0) == 7


@pytest.mark.parametrize(
    ("message", "right"),
    [(b"", 0xFFFF), (b"\x08\x00\x00\x00\x12\x34\x00\x01", 0xE5CA), (b"\x01", 0xFEFF), (b"\xff\xff\x00\x01", 0xFFFE)],
)
def test_checksums_are_those_of_the_internet(message: bytes, right: int) -> None:
    assert checksum(message) == right


async def test_without_either_socket_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    # The standard library's: this process may be anybody.
    monkeypatch.setattr("refloat_checks.pings.socket.socket", refuse)

    with pytest.raises(NotAllowed):
        await ping(socket.AF_INET, "127.0.0.1", Ping())


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(asked(sys.argv[1:]))))
