"""Services: which process is one, and what is asked to be done about it."""

import os
import shutil
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from refloat_checks.facts import source
from refloat_checks.nhc.checks.owners import Owned
from refloat_checks.nhc.checks.services import Service, candidates, judge, read_words
from refloat_checks.nhc.native import AwaitExit, Command, Kill, NhcOutcome, NhcRun, Shell
from refloat_checks.nhc.registry import find
from refloat_checks.probes import ProbePool
from refloat_checks.proc import Roots
from refloat_checks.process_table import Identity
from refloat_checks.process_titles import Title, TitleReader, by_word
from refloat_contract.words import Status

Ask = Callable[..., Awaitable[NhcOutcome]]
LISTENER = Title(10, "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups")
SESSION = Title(11, "sshd: alice [priv]")
FOUND = (Owned(10, "httpd", "root", 7), Owned(12, "httpd", "root", 9))


def service(*words: str, strict: bool = False) -> Service:
    read = read_words(words, strict=strict)
    assert isinstance(read, Service)
    return read


def of_root(*titles: Title) -> dict[str, Any]:
    return {
        "process titles": titles,
        "processes": {title.pid: Identity(0, 7) for title in titles},
        "user 0": "root",
    }


async def test_the_sshd_title(ask: Ask) -> None:
    recorded = of_root(LISTENER)

    assert (await ask("check_ps_service", "-u", "root", "sshd", recorded=recorded)).status is Status.OK
    assert (await ask("check_ps_service", "-u", "root", "sshd", recorded=recorded, strict=True)).rc == 1


async def test_a_session_of_sshd_is_not_the_service(ask: Ask) -> None:
    outcome = await ask("check_ps_service", "-u", "root", "sshd", recorded=of_root(SESSION))

    assert outcome.message == "check_ps_service:  Service sshd (process sshd) owned by root not running"


def test_a_title_with_a_colon_is_nothing_to_be_killed_for() -> None:
    assert candidates(by_word([LISTENER, SESSION]), service("-k", "sshd")) == []


async def test_a_process_title_with_shell_code(ask: Ask) -> None:
    title = "x'; touch /tmp/owned; echo '$(reboot)`id`"
    recorded = of_root(Title(5, title))

    outcome = await ask("check_ps_service", "-f", "-E", "wall found", "-m", "x*", "evil", recorded=recorded)

    assert outcome.actions == (Shell("wall found"),)
    assert title not in outcome.message


async def test_an_apostrophe_in_a_message(ask: Ask) -> None:
    outcome = await ask("check_ps_service", "-d", "it's", "o'reilly", recorded=of_root())

    assert outcome.message == "check_ps_service:  Service o'reilly (process it's) not running"


@pytest.mark.parametrize(
    ("words", "action", "said"),
    [
        (("-S",), Command(("/sbin/service", "web", "start")), "start in progress"),
        (("-r",), Command(("/sbin/service", "web", "restart")), "restart in progress"),
        (("-e", "wall 'gone'"), Shell("wall 'gone'"), "\"wall 'gone'\" in progress"),
    ],
)
def test_what_is_to_be_started_is_returned(words: tuple[str, ...], action: Command | Shell, said: str) -> None:
    outcome = judge((), service(*words, "-d", "httpd", "web"))

    assert (outcome.rc, outcome.actions) == (1, (action,))
    assert outcome.message == f"check_ps_service:  Service web (process httpd) not running; {said}"


def test_a_cycle_hands_the_service_to_a_fixed_script() -> None:
    (action,) = judge((), service("-c", "web", "$(id)")).actions

    assert isinstance(action, Command)
    assert action.argv[3:] == ("cycle", "web", "$(id)")
    assert "$(id)" not in action.argv[2]


@pytest.mark.parametrize(
    ("statuses", "rc", "end"),
    [
        ((3, 0), 1, "; start failed (exit code 3)."),
        ((0, 1), 1, "; start succeeded but failed to start service web."),
        ((0, 0), 0, "; start succeeded; service web now running."),
    ],
)
def test_a_verified_start_is_settled_by_what_came_of_it(statuses: tuple[int, ...], rc: int, end: str) -> None:
    outcome = judge((), service("-S", "-V", "web"))
    assert outcome.settle is not None

    settled = outcome.settle(statuses)

    assert len(outcome.actions) == len(statuses)
    assert (settled.rc, (settled.message or settled.log[0]).endswith(end)) == (rc, True)


def test_a_kill_names_the_process_and_when_it_was_started() -> None:
    outcome = judge(FOUND, service("-k", "httpd"))

    assert outcome.actions == (Kill(10, 7),)
    assert outcome.message.endswith("running; killed process ID 10 (SIGKILL)")


def test_all_are_killed_when_each_is_verified() -> None:
    outcome = judge(FOUND, service("-kv", "httpd"))
    assert outcome.settle is not None

    assert outcome.actions == (Kill(10, 7), Kill(12, 9))
    assert outcome.settle((0, 0)).status is Status.OK
    assert outcome.settle((0, 1)).message.endswith('"kill -9 12" failed (exit code 1).')


def test_a_kill_that_is_checked_waits_for_the_end() -> None:
    outcome = judge(FOUND, service("-kV", "httpd"))
    assert outcome.settle is not None

    assert outcome.actions == (Kill(10, 7), AwaitExit(10, 7))
    assert outcome.settle((0, 1)).message.endswith('"kill -9 10" succeeded but failed to terminate process.')
    assert outcome.settle((0, 0)).log == (
        "check_ps_service:  Service httpd (process httpd) running; process ID 10 terminated successfully.",
    )


@pytest.mark.parametrize(
    ("words", "statuses", "said"),
    [
        (("-s",), None, "running; service termination in progress"),
        (("-sv",), (1,), 'running; "/sbin/service httpd stop" failed (exit code 1).'),
        (("-sV",), (0, 1), 'running; "/sbin/service httpd stop" succeeded but failed to stop process 10.'),
        (("-V", "-E", "x"), (0, 1), "running succeeded but failed to terminate process 10."),
    ],
)
def test_what_must_not_run_is_stopped(words: tuple[str, ...], statuses: tuple[int, ...] | None, said: str) -> None:
    outcome = judge(FOUND, service(*words, "httpd"))
    if statuses is not None:
        assert outcome.settle is not None
        outcome = outcome.settle(statuses)

    assert outcome.message == f"check_ps_service:  Service httpd (process httpd) {said}"


def test_what_is_not_fatal_stays_so_when_settled() -> None:
    outcome = judge((), service("-0Sv", "web"))
    assert outcome.settle is not None

    assert (outcome.rc, outcome.settle((1,)).rc) == (0, 0)
    assert outcome.settle((1,)).log[-1].endswith("start failed (exit code 1). (non-fatal)")


async def test_the_blacklist_does_not_find_us(ask: Ask, roots: Any, add_process: Callable[..., None]) -> None:

    add_process(os.getpid(), "nhc", b"nhc\0-e\0check_ps_blacklist evild\0")

    assert (await ask("check_ps_blacklist", "evild")).rc == 0


async def test_a_name_in_place_of_a_number_is_that_owners(ask: Ask) -> None:
    outcome = await ask("check_ps_service", "-u", "0", "httpd", recorded=of_root())

    assert outcome.message == "check_ps_service:  Service httpd (process httpd) owned by root not running"


async def test_a_match_string_that_means_nothing_is_a_configuration_error(ask: Ask) -> None:
    assert (await ask("check_ps_service", "-m", "{sshd}", "sshd", recorded=of_root())).status is Status.UNKNOWN


@pytest.fixture(params=["check_ps_service", "check_ps_daemon"])
def passes(roots: Roots, pool: ProbePool, request: pytest.FixtureRequest) -> Callable[[], Awaitable[NhcOutcome]]:
    """Look for httpd, each time in a pass of its own."""
    facts, check = source(roots, pool), find(request.param)
    assert check is not None
    return lambda: check.run(["httpd"], NhcRun(facts(), {}))


async def test_while_the_process_that_was_found_runs_no_other_is_read(
    passes: Callable[[], Awaitable[NhcOutcome]], add_process: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_process(20, "httpd", b"/usr/sbin/httpd\0-k\0")
    assert (await passes()).status is Status.OK
    # A fixture's files cannot tell that nobody read them.
    monkeypatch.setattr(TitleReader, "read", None)

    assert (await passes()).status is Status.OK


async def test_a_process_that_was_found_counts_no_longer_when_it_is_another(
    passes: Callable[[], Awaitable[NhcOutcome]], add_process: Callable[..., None], roots: Roots
) -> None:
    add_process(20, "httpd", b"/usr/sbin/httpd\0-k\0")
    assert (await passes()).status is Status.OK

    (roots.proc / "20" / "cmdline").write_bytes(b"sleep\0")
    assert (await passes()).status is Status.FAILED
    add_process(21, "httpd", b"/usr/sbin/httpd\0-k\0")
    assert (await passes()).status is Status.OK
    shutil.rmtree(roots.proc / "21")
    assert (await passes()).status is Status.FAILED
