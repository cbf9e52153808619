"""What processes use, whose they are, and who may have any."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from refloat_checks.facts import Facts
from refloat_checks.hardware import Memory
from refloat_checks.nhc.checks.jobs import merged
from refloat_checks.nhc.checks.load import judge_kswapd, judge_loadavg
from refloat_checks.nhc.checks.people import Ignored, Known, judge_users
from refloat_checks.nhc.native import Kill, NhcOutcome, NhcRun, Renice, Shell
from refloat_checks.nhc.registry import find
from refloat_checks.proc import Roots
from refloat_checks.process_table import ProcessUse, parse_use
from refloat_checks.process_titles import Title, TitleReader, title_of
from refloat_contract.errors import Transient
from refloat_contract.records import replace
from refloat_contract.words import Status

Ask = Callable[..., Awaitable[NhcOutcome]]
BURNER = ProcessUse(50, 40, 1000, "./burn 'all'; reboot", 999, 55, 2048, 4096, 127, 7)
PARENT = ProcessUse(40, 2, 1000, "-bash", 0, 0, 10, 10, 0, 6)
RECORDED: dict[str, Any] = {
    "memory": Memory(1, 1, 0, 0),
    "what processes use": (PARENT, BURNER),
    "user 1000": "bob",
}


def test_shares_are_computed_as_ps_does() -> None:
    stat = f"50 (a) b) S 40 1 1 0 -1 0 0 0 0 0 300 200 0 0 20 0 1 0 1000 {8 << 20} 256 0"

    use = parse_use(Title(50, "x"), stat, 1000, uptime_s=20.0, ram_kb=10240)

    assert replace(use, title="") == ProcessUse(50, 40, 1000, "", 500, 100, 1024, 8192, 5, 1000)


@pytest.mark.parametrize(
    ("data", "title"),
    [(b"a\0b  c\0", "a b c"), (b"sshd: x [priv]\0\0\0", "sshd: x [priv]"), (b"a\0\0b\0", "a b"), (b"", "")],
)
def test_titles_are_as_the_shell_splits_them(data: bytes, title: str) -> None:
    assert title_of(data) == title


def test_kernel_threads_have_brackets(roots: Roots, add_process: Callable[..., None]) -> None:
    add_process(9, "kswapd0")
    (roots.proc / "9" / "comm").write_text("kswapd0\n")
    add_process(10, "bash", b"-bash\0")

    assert set(TitleReader(roots).read()) == {Title(9, "[kswapd0]"), Title(10, "-bash")}


@pytest.mark.parametrize(
    ("check", "limit", "said"),
    [
        ("check_ps_cpu", "99", "using 99.9% CPU (limit 99%)"),
        ("check_ps_physmem", "5%", "using 5.5% RAM (limit 5%)"),
        ("check_ps_physmem", "2M", "using 2MB RAM (limit 2MB)"),
        ("check_ps_mem", "1M", "using 4MB memory (RAM+swap) (limit 1MB)"),
        ("check_ps_time", "2m", "has consumed 2:07 of CPU time (limit 2m)"),
    ],
)
async def test_too_much_is_said_in_nhcs_words(ask: Ask, check: str, limit: str, said: str) -> None:
    outcome = await ask(check, limit, recorded=RECORDED)

    assert outcome.message == f'{check}:  Process "./burn" (50) of bob {said}'


async def test_actions_are_returned_and_hold_no_title(ask: Ask) -> None:
    words = ("-f", "-e", "wall hot", "-r", "5", "-m", "*burn*", "99")

    outcome = await ask("check_ps_cpu", *words, recorded=RECORDED)

    assert outcome.actions == (Shell("wall hot"), Renice(50, "5", 7))
    assert outcome.message.endswith("; reniced +5")


async def test_a_parent_of_the_same_user_is_killed_too(ask: Ask) -> None:
    outcome = await ask("check_ps_cpu", "-kK", "99", recorded=RECORDED)

    assert outcome.actions == (Kill(50, 7), Kill(40, 6))
    assert outcome.message.endswith("; killed; killed parent 40")


async def test_a_parent_of_another_user_is_left_alone(ask: Ask) -> None:
    recorded = {**RECORDED, "what processes use": (replace(PARENT, uid=0), BURNER)}

    outcome = await ask("check_ps_cpu", "-K", "99", recorded=recorded)

    assert (outcome.actions, outcome.message.endswith("; parent 40 not killed (owner mismatch)")) == ((), True)


async def test_all_of_them_are_counted(ask: Ask) -> None:
    outcome = await ask("check_ps_cpu", "-a", "0", recorded=RECORDED)

    assert (outcome.rc, outcome.message.endswith(" (last of 2)"), len(outcome.log)) == (2, True, 2)


async def test_system_users_are_not_looked_at_but_with_capital_a(ask: Ask) -> None:
    variables = {"MAX_SYS_UID": "1000"}

    assert (await ask("check_ps_cpu", "9", recorded=RECORDED, variables=variables)).rc == 0
    assert (await ask("check_ps_cpu", "-A", "9", recorded=RECORDED, variables=variables)).rc == 1


@pytest.mark.parametrize(
    ("text", "variables", "rc"),
    [
        ("SYS_UID_MAX 1000\n", {}, 0),
        ("#SYS_UID_MAX 2000\nUID_MIN 1000\n", {}, 1),
        ("UID_MIN 1001\n", {}, 0),
        ("", {}, 1),
        (None, {}, 1),
        ("UID_MIN 1001\n", {"MAX_SYS_UID": "99"}, 1),
    ],
)
async def test_the_systems_own_users_are_those_of_login_defs(
    recorded_facts: Callable[[dict[str, Any]], Facts],
    tmp_path: Path,
    text: str | None,
    variables: dict[str, str],
    rc: int,
) -> None:
    if text is not None:
        (tmp_path / "login.defs").write_text(text)
    run = NhcRun(recorded_facts(RECORDED), {"LOGIN_DEFS_SRC": str(tmp_path / "login.defs"), **variables})
    check = find("check_ps_cpu")
    assert check is not None

    assert (await check.run(["99"], run)).rc == rc


@pytest.mark.parametrize(
    ("check", "words", "message"),
    [
        ("check_ps_cpu", ("many",), "Syntax error:  CPU utilization limit required."),
        ("check_ps_mem", ("5%",), "Syntax error:  Percentage not supported by this check."),
        ("check_ps_physmem", (), "Syntax error:  Memory utilization limit required."),
        ("check_ps_time", ("1h",), 'Syntax error:  Invalid characters in CPU time limit "1h"'),
        ("check_ps_time", ("-x", "1"), "Invalid option:  -x"),
    ],
)
async def test_bad_limits_fail_as_in_nhc(ask: Ask, check: str, words: tuple[str, ...], message: str) -> None:
    assert (await ask(check, *words, recorded=RECORDED)).message == f"{check}:  {message}"


async def test_a_size_that_nhc_cannot_read_is_a_configuration_error(ask: Ask) -> None:
    assert (await ask("check_ps_mem", "1GiB", recorded=RECORDED)).status is Status.UNKNOWN
    assert (await ask("check_ps_mem", "1GiB", recorded=RECORDED, strict=True)).rc == 0


async def test_seconds_that_are_no_octal_number_fail_only_in_strict_mode(ask: Ask) -> None:
    recorded = {**RECORDED, "what processes use": (replace(BURNER, cpu_s=68),)}

    assert (await ask("check_ps_time", "90", recorded=recorded)).rc == 0
    assert (await ask("check_ps_time", "90", recorded=recorded, strict=True)).rc == 1


def test_a_user_whose_name_is_the_beginning_of_anothers() -> None:
    assert merged(["root"], ["bobby", "bob"]) == ["root", "bobby", "bob"]
    assert merged(["root"], ["bobby", "bob"], strict=True) == ["root", "bobby"]


def test_a_stranger_is_killed_only_when_that_is_asked_for() -> None:
    asked = judge_users((BURNER,), Known({1000: "bob"}, {"bobby"}, Ignored(), 99), ["log", "kill", "die"])

    assert (asked.rc, asked.actions) == (1, (Kill(50, 7),))
    assert asked.message == 'check_ps_unauth_users:  bob\'s "./burn" process is unauthorized. (PID 50)'
    assert asked.log == (asked.message,)
    assert judge_users((BURNER,), Known({1000: "bob"}, set(), Ignored(), 99), ["log", "ignore", "die"]).rc == 0


@pytest.mark.parametrize(
    ("spared", "rc"),
    [
        (Ignored(users=("bob alice",)), 0),
        (Ignored(users=("bobby",)), 1),
        (Ignored(users=("bobby",), strict=True), 0),
        (Ignored(uids=("10000",)), 1),
        (Ignored(commands=("./burn",)), 0),
        (Ignored(pids=("50",)), 0),
    ],
)
def test_whole_words_are_spared(spared: Ignored, rc: int) -> None:
    assert judge_users((BURNER,), Known({1000: "bob"}, set(), spared, 99), ["die"]).rc == rc


async def test_a_slow_slurmctld_drains_nobody(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(argv: tuple[str, ...], **_: object) -> None:
        raise Transient(f"{argv[0]} did not end within 10 s; killed")

    monkeypatch.setattr("refloat_service.commands.run", slow)

    outcome = await ask("check_ps_unauth_users", "kill", "die", recorded=RECORDED, variables={"NHC_RM": "slurm"})

    assert (outcome.status, outcome.actions) == (Status.UNKNOWN, ())


async def test_without_a_resource_manager_nobody_is_a_stranger(ask: Ask) -> None:
    assert (await ask("check_ps_unauth_users", recorded=RECORDED)).status is Status.UNKNOWN
    assert (await ask("check_ps_unauth_users", recorded=RECORDED, strict=True)).rc == 1
    assert (await ask("check_ps_userproc_lineage", recorded=RECORDED)).message.startswith(
        "check_ps_userproc_lineage:  This check requires a supported resource manager"
    )


async def test_a_child_of_the_daemon_belongs_here(ask: Ask) -> None:
    daemon = ProcessUse(2, 1, 0, "slurmstepd: [7.batch]", 0, 0, 0, 0, 0, 1)
    variables = {"NHC_RM": "slurm"}
    recorded = {**RECORDED, "what processes use": (daemon, PARENT, BURNER)}

    assert (await ask("check_ps_userproc_lineage", recorded=recorded, variables=variables)).rc == 0
    assert (await ask("check_ps_userproc_lineage", recorded=RECORDED, variables=variables)).message == (
        'check_ps_userproc_lineage:  bob\'s "-bash" process is rogue. (PID 40)'
    )


@pytest.mark.parametrize(("words", "rc"), [(["600", "9"], 0), (["100", "9"], 1), (["600", "2"], 1)])
def test_reclaim_threads_are_compared(words: list[str], rc: int) -> None:
    threads = [ProcessUse(pid, 2, 0, f"[kswapd{pid}]", 0, 0, 0, 0, cpu_s, 1) for pid, cpu_s in ((5, 30), (6, 150))]

    assert judge_kswapd(threads, words, strict=True).rc == rc


def test_a_process_that_calls_itself_kswapd_is_none() -> None:
    fake = [ProcessUse(pid, 1, 1000, "kswapd", 0, 0, 0, 0, 900, 1) for pid in (5, 6)]

    assert (judge_kswapd(fake, ["100", "2"]).rc, judge_kswapd(fake, ["100", "2"], strict=True).rc) == (0, 1)


def test_load_is_compared_by_its_whole_part() -> None:
    assert judge_loadavg("4.99 1.0 1.0 1/2 3", ["5", "", "2"]).rc == 0
    assert judge_loadavg("5.01 1.0 1.0 1/2 3", ["5"]).message == (
        "check_ps_loadavg:  1-minute load average too high:  5 >= 5"
    )
