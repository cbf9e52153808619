"""Sockets, as the kernel's tables tell them, and hosts that must answer."""

import os
import socket
from collections.abc import Awaitable, Callable

import pytest

from refloat_checks import socket_diag
from refloat_checks.facts import source
from refloat_checks.nhc.checks import net_ping
from refloat_checks.nhc.checks.launching import Ended
from refloat_checks.nhc.checks.net_ping import read_words
from refloat_checks.nhc.native import NhcOutcome, NhcRun, Shell
from refloat_checks.nhc.registry import find
from refloat_checks.pings import NotAllowed, Ping, ping
from refloat_checks.probes import ProbePool
from refloat_checks.proc import Roots
from refloat_checks.sockets import address, parse_inet, parse_unix, program_name, read_holders, read_sockets
from refloat_contract.words import Status

Ask = Callable[..., Awaitable[NhcOutcome]]
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7001 1 0000000000000000
   1: 0100007F:0019 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 7002 1 0000000000000000
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr
   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 7003 1 0
   1: 00000000000000000000000001000000:0019 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 7004 1 0
"""
UNIX = """\
Num       RefCount Protocol Flags    Type St Inode Path
ffff0001: 00000002 00000000 00010000 0001 01  8001 /run/a b
ffff0002: 00000003 00000000 00000000 0002 03  8002 @abstract
ffff0003: 00000003 00000000 00000000 0005 01  8003
"""


@pytest.fixture
def network(roots: Roots, add_process: Callable[..., None]) -> Roots:
    """A machine with sockets, one of them held by sshd."""
    (roots.proc / "net").mkdir()
    for name, text in (("tcp", TCP), ("tcp6", TCP6), ("unix", UNIX)):
        (roots.proc / "net" / name).write_text(text)
    add_process(900, "sshd", b"sshd: /usr/sbin/sshd -D [listener]\0")
    add_process(901, "httpd", b"/usr/sbin/httpd\0-k\0")
    for pid, inode in ((900, 7001), (901, 7003)):
        (roots.proc / str(pid) / "fd").mkdir()
        (roots.proc / str(pid) / "fd" / "3").symlink_to(f"socket:[{inode}]")
    return roots


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("0100007F:0019", "127.0.0.1:25"),
        ("00000000:0000", "0.0.0.0:*"),
        ("00000000000000000000000000000000:0050", ":::80"),
        ("0000000000000000FFFF00000100007F:0050", "::ffff:127.0.0.1:80"),
    ],
)
def test_addresses_are_spelled_as_netstat_does(text: str, spelled: str) -> None:
    assert address(text) == spelled


def test_tables_are_read() -> None:
    assert [(each.local, each.state, each.uid, each.inode) for each in parse_inet(TCP, "tcp")] == [
        ("0.0.0.0:22", "LISTEN", 0, 7001),
        ("127.0.0.1:25", "ESTABLISHED", 1000, 7002),
    ]
    assert [(each.local, each.type, each.state) for each in parse_unix(UNIX)] == [
        ("/run/a b", "STREAM", "LISTENING"),
        ("@abstract", "DGRAM", "CONNECTED"),
        ("", "SEQPACKET", ""),
    ]


def test_both_versions_of_a_protocol_are_read(network: Roots) -> None:
    assert [each.inode for each in read_sockets(network, "tcp")] == [7001, 7002, 7003, 7004]


@pytest.mark.parametrize(
    ("title", "name"),
    [("/usr/sbin/httpd -k", "httpd"), ("sshd: /usr/sbin/sshd -D", "sshd:"), ("[kworker/0:1]", "[kworker/0:1]")],
)
def test_programs_are_named_as_netstat_does(title: str, name: str) -> None:
    assert program_name(title) == name


def test_who_holds_a_socket_is_found_among_those_asked(network: Roots) -> None:
    assert read_holders(network, [900, 901, 902], [7001, 7003]) == {7001: [900], 7003: [901]}
    assert read_holders(network, [901], [7001]) == {}


@pytest.mark.parametrize(
    ("words", "rc"),
    [
        (("-p", "tcp", "-s", "LISTEN", "-l", "*:22", "-d", "sshd*"), 0),
        (("-p", "tcp", "-l", "*:22", "-d", "httpd"), 1),
        (("-p", "tcp", "-l", "*:80", "-d", "httpd"), 0),
        (("-p", "tcp6", "-l", "*:80"), 0),
        (("-p", "tcp6", "-l", "*:22"), 1),
        (("-l", "*:25", "-d", "unknown"), 0),
        (("-!", "-l", "*:22", "-d", "!sshd*"), 0),
        (("-!", "-l", "*:80", "-d", "!sshd*"), 1),
        (("-!", "-a", "-p", "tcp", "-s", "LISTEN"), 3),
        (("-l", "127.0.0.1:25", "-u", "1000"), 1),
    ],
)
async def test_sockets_are_looked_for(ask: Ask, network: Roots, words: tuple[str, ...], rc: int) -> None:
    assert (await ask("check_net_socket", *words, recorded={"user 0": "root", "user 1000": "bob"})).rc == rc


async def test_actions_are_returned(ask: Ask, network: Roots) -> None:
    missing = await ask("check_net_socket", "-0", "-n", "web", "-l", "*:8080", "-e", "wall gone")
    there = await ask("check_net_socket", "-!", "-l", "*:80", "-E", "wall there", "-e", "no")

    assert (missing.rc, missing.actions) == (0, (Shell("wall gone"),))
    assert missing.log[0].endswith('No web sockets found ((localaddr =~ "*:8080") (non-fatal)) (non-fatal)')
    assert (there.rc, there.actions) == (1, (Shell("wall there"),))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "No match criteria supplied."),
        (("-p", "tcp", "22"), 'Syntax error:  Unsupported additional arguments supplied ("22").'),
        (("-x",), "Invalid option:  -x"),
    ],
)
async def test_bad_arguments_fail(ask: Ask, words: tuple[str, ...], message: str) -> None:
    assert (await ask("check_net_socket", *words)).message == f"check_net_socket:  {message}"


def test_pings_options_are_read() -> None:
    read = read_words(("-c3", "-i", "0.2", "-W", "1", "-I", "ib0", "a", "b"))

    assert isinstance(read, net_ping.Wanted)
    assert read.ping == Ping(count=3, interval_s=0.2, ttl=2, source="ib0")
    assert read.options == ("-I", "ib0", "-i", "0.2", "-c", "3", "-t", "2", "-w", "1", "-W", "1")
    assert read.hosts == ("a", "b")


async def test_a_number_that_is_none_is_a_configuration_error(ask: Ask) -> None:
    assert (await ask("check_net_ping", "-c", "many", "127.0.0.1")).status is Status.UNKNOWN


async def test_without_hosts_ping_fails(ask: Ask) -> None:
    assert (await ask("check_net_ping", "-c", "1")).message == "check_net_ping:  No target(s) given for ping."


@pytest.mark.parametrize(("rc", "message"), [(0, ""), (1, "check_net_ping:  No response received from 127.0.0.1")])
async def test_where_the_kernel_gives_no_socket_the_program_is_asked(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, rc: int, message: str
) -> None:
    asked: list[tuple[str, ...]] = []

    async def refuse(*_: object) -> bool:
        raise NotAllowed("no")

    async def launch(argv: tuple[str, ...], run: NhcRun, timeout_s: float) -> Ended:
        asked.append(argv)
        return Ended(rc, "")

    monkeypatch.setattr("refloat_checks.pings.ping", refuse)
    monkeypatch.setattr("refloat_checks.nhc.checks.net_ping.launch", launch)

    assert (await ask("check_net_ping", "127.0.0.1")).message == message
    assert asked == [("ping", "-q", "-n", "-c", "1", "-t", "2", "-w", "1", "127.0.0.1")]


async def test_without_socket_and_program_nothing_is_known(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> bool:
        raise NotAllowed("no")

    monkeypatch.setattr("refloat_checks.pings.ping", refuse)

    outcome = await ask("check_net_ping", "127.0.0.1", variables={"PATH": "/nowhere"})

    assert (outcome.status, "there is no ping(8)" in outcome.message) == (Status.UNKNOWN, True)


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
async def test_this_machine_answers_itself(family: socket.AddressFamily, host: str) -> None:
    try:
        answers = await ping(family, host, Ping(count=2, interval_s=0.01, ttl=2))
    except NotAllowed:
        pytest.skip(f"group {os.getegid()} may have no ICMP sockets here")
    except OSError as error:
        pytest.skip(f"no such network here: {error}")

    assert answers


def test_the_kernel_tells_of_listening_sockets_over_netlink() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as place:
        place.bind(("127.0.0.1", 0))
        place.listen()
        port = place.getsockname()[1]

        found = {row.local: row for row in socket_diag.read_tcp(1 << 10)}

        row = found[f"127.0.0.1:{port}"]
        assert (row.remote, row.state, row.uid, row.is_v6) == ("0.0.0.0:*", 10, os.geteuid(), False)
        assert row.inode == os.fstat(place.fileno()).st_ino


async def test_a_real_listener_is_found_with_its_program(pool: ProbePool) -> None:
    found = find("check_net_socket")
    assert found is not None
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as place:
        place.bind(("127.0.0.1", 0))
        place.listen()
        words = ["-p", "tcp", "-s", "LISTEN", "-l", f"*:{place.getsockname()[1]}"]
        run = NhcRun(source(Roots(), pool)(), {})

        there = await found.run(words, run)
        established = await found.run([*words[:3], "ESTABLISHED", *words[4:]], run)

    assert (there.rc, established.rc) == (0, 1)
