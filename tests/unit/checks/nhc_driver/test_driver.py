# SPDX-License-Identifier: Apache-2.0
import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from refloat_checks import facts, offline
from refloat_checks.nhc import plan
from refloat_checks.nhc.checks import cmd
from refloat_checks.nhc.driver import Deaf, Options, Pass
from refloat_checks.nhc.engine import NeedsLoop
from refloat_checks.nhc.findings import PassResult
from refloat_checks.nhc.native import PASSED, NativeCheck, NhcOutcome, NhcRun, Shell, failed, passed, unknown
from refloat_checks.nhc.straight import Straight, drive
from refloat_checks.nhc.straight_facts import StraightFacts
from refloat_checks.probes import ProbePool
from refloat_checks.proc import Roots
from refloat_contract.words import Status

SEEN: list[list[str]] = []
RunPass = Callable[..., Awaitable[PassResult]]


class Heard(Deaf):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def said(self, text: str) -> None:
        self.lines.append(text)


async def good(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    SEEN.append(list(words))
    return PASSED


async def bad(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    return failed("check_bad", " ".join(words) or "it is bad")


async def shows(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    return failed("check_shows", run.variable(words[0], "unset"))


async def hangs(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    waker, never = os.pipe()
    try:
        await run.engine.ends(waker, 60)
    finally:
        os.close(waker)
        os.close(never)
    raise AssertionError


async def unsure(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    return unknown("check_unsure", "no answer")


async def acts(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    return passed(actions=(Shell(words[0]),))


NATIVES = {
    f"check_{look.__name__}": NativeCheck(f"check_{look.__name__}", look)
    for look in (good, bad, shows, hangs, unsure, acts)
}
COMMANDS = {each.name: each for each in cmd.CHECKS}


def straight_as_far_as_it_goes(looking: Pass, engine: Straight) -> PassResult | None:
    straight_facts = StraightFacts(engine)
    looking.look_with(straight_facts, engine)
    try:
        return drive(looking.run())
    except NeedsLoop:
        return None
    finally:
        straight_facts.close()


@pytest.fixture(params=["loop", "straight"])
async def run_pass(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[RunPass]:
    pool = ProbePool()
    source = facts.source(Roots(), pool)

    async def run(text: str, listener: Heard | None = None, **options: object) -> PassResult:
        options.setdefault("variables", {"HOSTNAME": "n1", "NHC_CHECK_ALL": "1"})
        scripts = await asyncio.to_thread(read_scripts, tmp_path)
        natives = NATIVES | COMMANDS
        planned = plan.make(text, "n1", scripts, natives.__contains__, strict=bool(options.get("strict")))
        root = options.pop("root", None)
        looked_at = source() if root is None else offline.source(Path(str(root)), pool)()
        made = Options(**options)  # type: ignore[arg-type]
        looking = Pass(planned, looked_at, natives.get, tuple(natives), made, listener or Heard())
        if request.param == "loop" or root is not None:
            return await looking.run()
        done = await asyncio.to_thread(straight_as_far_as_it_goes, looking, Straight())
        return done or await looking.go_on(looked_at)

    SEEN.clear()
    yield run
    await pool.aclose()


def read_scripts(place: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in place.glob("*.nhc")}


async def eventually(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not await asyncio.to_thread(is_so):  # noqa: ASYNC110 - another process's doing sets no event here
            await asyncio.sleep(0.01)


def told(result: PassResult) -> list[tuple[str, str, str]]:
    return [(finding.label, finding.status.value, finding.message) for finding in result.findings]


async def test_lines_run_in_order_and_share_their_variables(run_pass: RunPass) -> None:
    result = await run_pass(
        '* || A=1\n* || export B="x $A"\n* || B=$(echo $B y)\n'
        '* || check_good $B\n* || check_good "$B"\nn2 || check_bad\n'
    )

    assert SEEN == [["x", "1", "y"], ["x 1 y"]]
    assert result.verdict.is_good


async def test_the_first_failure_ends_the_run_as_in_nhc(run_pass: RunPass) -> None:
    result = await run_pass("* || check_bad one\n* || check_bad two\n", variables={})

    assert (result.verdict.rc, result.verdict.message, len(result.findings)) == (1, "check_bad:  one", 1)


async def test_with_all_checks_failures_are_counted_and_the_first_is_told(run_pass: RunPass) -> None:
    result = await run_pass("* || check_bad one\n* || die 9 two\n* || check_good\n")

    assert (result.verdict.rc, result.verdict.message, len(result.findings)) == (2, "check_bad:  one", 3)


async def test_a_check_that_only_returns_is_a_failure_too(run_pass: RunPass) -> None:
    text = "* || false\n* || ( exit 4 )\n"

    assert [finding.message for finding in (await run_pass(text)).findings] == [
        "Check false returned 1",
        "Check ( exit 4 ) returned 4",
    ]
    assert (await run_pass(text, strict=True)).verdict.rc == 0, "NHC -a does not see them"


async def test_a_lost_last_line(run_pass: RunPass) -> None:
    text = "* || check_good\n* || check_bad"

    assert (await run_pass(text)).verdict.rc == 1
    assert (await run_pass(text, strict=True)).verdict.rc == 0


async def test_an_apostrophe_in_a_message(run_pass: RunPass) -> None:
    result = await run_pass('* || check_bad "it\'s" \'a "b" $(c)\'\n* || check_good x | cat; die 1 "that\'s it"\n')

    assert [finding.message for finding in result.findings] == ['check_bad:  it\'s a "b" $(c)', "that's it"]


async def test_a_value_with_shell_code_is_never_evaluated(run_pass: RunPass, tmp_path: Path) -> None:
    code = f"$(touch {tmp_path}/pwned)'; touch {tmp_path}/pwned; '"
    result = await run_pass(
        "* || echo; check_shows X\n* || check_shows X\n", variables={"X": code, "NHC_CHECK_ALL": "1"}
    )

    assert [finding.message for finding in result.findings] == [f"check_shows:  {code}"] * 2
    assert not (tmp_path / "pwned").exists()


async def test_a_sites_scripts_are_sourced_and_win_over_native_checks(run_pass: RunPass, tmp_path: Path) -> None:
    (tmp_path / "a.nhc").write_text('check_site() { log "$HOSTNAME"; check_bad "of $1"; }\nLIMIT=7\n')
    (tmp_path / "b.nhc").write_text("function check_good {\n die 5 ours\n}\n")
    (tmp_path / "lbnl_fs.nhc").write_text("touch /should/not/be/sourced; die 1 no\n")
    heard = Heard()

    result = await run_pass("* || check_site x\n* || check_good\n* || check_shows LIMIT\n* || N=$LIMIT\n", heard)

    assert heard.lines == ["n1"]
    assert told(result) == [
        ("check_site", "FAILED", "check_bad:  of x"),
        ("check_good", "FAILED", "ours"),
        ("check_shows", "FAILED", "check_shows:  7"),
    ]


async def test_a_check_that_a_site_added_to_a_script_of_nhcs_is_found(run_pass: RunPass, tmp_path: Path) -> None:
    (tmp_path / "lbnl_hw.nhc").write_text(
        "function check_good() { die 1 shipped; }\nfunction check_ours() { die 1 $CHECK; }\n"
    )
    (tmp_path / "lbnl_fs.nhc").write_text("function check_bad() { die 1 shipped; }\ndie 1 sourced\n")

    result = await run_pass("* || check_good\n* || check_ours 'a b'\n* || check_bad x\n")

    assert [finding.message for finding in result.findings] == ["", "check_ours 'a b'", "check_bad:  x"]


async def test_what_a_script_sets_is_seen_by_native_checks(run_pass: RunPass, tmp_path: Path) -> None:
    (tmp_path / "a.nhc").write_text("MAX_SYS_UID=7\n")

    assert told(await run_pass("* || check_shows MAX_SYS_UID\n"))[0][2] == "check_shows:  7"


@pytest.mark.parametrize("line", ["check_hangs", "sleep 60", "sleep 60 & wait", "trap '' TERM; sleep 60"])
async def test_a_check_that_hangs_blames_only_itself_and_stops_nothing_else(run_pass: RunPass, line: str) -> None:
    result = await run_pass(f"* || {line}\n* || check_good\n", deadline_s=0.6, check_deadline_s=0.2)

    assert [finding.status for finding in result.findings][:1] == [Status.UNKNOWN]
    assert result.verdict.message is None, "nobody is drained for it"
    assert not result.verdict.is_good


async def test_lines_after_a_hanging_native_check_are_looked_at(run_pass: RunPass) -> None:
    result = await run_pass("* || check_hangs\n* || check_bad\n", check_deadline_s=0.1)

    assert [finding.status for finding in result.findings] == [Status.UNKNOWN, Status.FAILED]


async def test_strict_drains_for_a_time_out_as_nhc_does_but_names_the_line(run_pass: RunPass) -> None:
    result = await run_pass("* || sleep 60\n", deadline_s=0.3, strict=True, variables={})

    assert (result.verdict.rc, result.verdict.message) == (142, 'Script timed out while executing "sleep 60".')


async def test_an_exit_ends_the_run_without_a_resume(run_pass: RunPass) -> None:
    result = await run_pass("* || exit 0\n* || check_bad\n")

    assert (result.verdict.rc, result.verdict.message, result.verdict.is_good) == (0, None, False)


async def test_unknown_in_a_shell_line_stays_unknown(run_pass: RunPass) -> None:
    result = await run_pass("* || check_unsure || false\n* || check_unsure\n* || /no/such/program\n")

    assert {finding.status for finding in result.findings} == {Status.UNKNOWN}


async def test_bash_is_not_started_for_a_file_that_needs_none(
    run_pass: RunPass, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **keywords: object) -> None:
        raise AssertionError("bash was started")

    # The standard library's: nothing may be executed.
    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    monkeypatch.setattr(os, "posix_spawn", refuse)
    result = await run_pass("* || A=$((2*HW_CORES))\n* || check_good $A\n* || true\n")

    assert result.verdict.is_good
    assert int(SEEN[0][0]) >= 2


async def test_actions_are_done_only_by_who_acts(run_pass: RunPass, tmp_path: Path) -> None:
    marks = [tmp_path / "observed", tmp_path / "acted"]
    for mark, does in zip(marks, (False, True), strict=True):
        await run_pass(f'* || check_acts "touch {mark}; sleep 60"\n', acts=does)
    await eventually(marks[1].exists)

    assert not marks[0].exists()


async def test_a_target_that_is_a_lone_slash_does_not_hide_the_other_lines(run_pass: RunPass) -> None:
    text = "/ || check_good\n* || check_bad\n"

    assert [finding.status for finding in (await run_pass(text)).findings] == [Status.UNKNOWN, Status.FAILED]
    strict = await run_pass(text, strict=True)
    assert (strict.verdict.rc, strict.verdict.message) == (1, None)


async def test_names_of_nhcs_library_work_in_scripts(run_pass: RunPass, tmp_path: Path) -> None:
    (tmp_path / "a.nhc").write_text(
        """check_site() {
    local size; nhc_common_parse_size 2gb size; log "$size"
    nhc_common_unparse_size 1048576 size; log "$size"
    mcheck n07 '{n[01-10]}' && log range
    mcheck n07 '!/^x/' && log negated
    mcheck_regexp n07 '^n0' && log regexp
    nhc_common_get_uid root size; log "$size"
    nhc_common_get_userid 0 size; log "$size"
    nhc_hw_gather_data; (( HW_THREADS > 0 )) && log threads
    array_push A 1 "2 3"; array_join , A size; log "$size"
    nhc_cmd_with_timeout 5 false || log "rc $?"
}
"""
    )
    heard = Heard()

    assert (await run_pass("* || check_site\n", heard)).verdict.is_good
    assert heard.lines == [
        "2097152", "1GB", "range", "negated", "regexp", "0", "root", "threads", "1,2 3", "rc 1",
    ]  # fmt: skip


async def test_what_a_command_prints_is_left_in_an_array(run_pass: RunPass, tmp_path: Path) -> None:
    (tmp_path / "a.nhc").write_text(
        """check_site() {
    local -a seen=(old older)
    check_cmd_output -O seen -m one -- printf '%s\\n' one '' '$(touch /nowhere) two'
    log "${#seen[@]} ${seen[1]}"
}
"""
    )
    heard = Heard()
    text = """* || check_site
* || check_cmd_output -O LEFT echo three
* || [[ ${LEFT[0]} == three && ${#seen[@]} == 0 ]] || die 1 "not there"
* || check_cmd_output -O 'LEFT[$(id)]' echo three
"""

    result = await run_pass(text, heard)

    assert [finding.status.value for finding in result.findings] == ["OK", "OK", "OK", "UNKNOWN"]
    assert heard.lines == ["2 $(touch /nowhere) two"]
    assert "'LEFT[$(id)]' is no name of a variable" in result.findings[3].message


async def test_nothing_that_bash_started_outlives_the_pass(run_pass: RunPass, tmp_path: Path) -> None:
    await run_pass(f"* || sleep 1234.5 & echo $! > {tmp_path}/pid\n")

    stat = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")

    await eventually(lambda: not stat.exists() or " Z " in stat.read_text())


FUNCTIONS = """\
says() { echo "$# $1"; echo of stderr >&2; mcheck n1 'n*' && echo asked; LATE=1; return 3; }
sleeps() { echo begun; sleep 60; echo ended; }
asks_and_sleeps() { mcheck n1 'n*'; sleep 60; }
dies() { die 4 "not for the node"; }
goes() { sleep 1234.6 & echo $! > "$1"; }
calls() { check_cmd_output -m '3 a' -r 3 says a b c && check_cmd_status -r 4 dies; }
nests() { check_cmd_status -r 3 says; }
"""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("check_cmd_output -r 3 -m '2 a;$(id)' -m asked says 'a;$(id)' '*'", ""),
        ("check_cmd_output -r 3 -m '!of stderr' -e 'says x'", ""),
        ("check_cmd_status says", 'check_cmd_status:  3 returned by "says".'),
        ("check_cmd_status -r 4 dies", ""),
        ("check_cmd_dmesg -r 3 -e 'says x' -m '1 x'", ""),
        ("calls", ""),
        ("check_cmd_status nests", ""),
        ("check_cmd_status -t 1 sleeps", 'check_cmd_status:  TIMEOUT after 1s for "sleeps"; subprocess terminated.'),
        ("check_cmd_status here", 'check_cmd_status:  6 returned by "here".'),
    ],
)
async def test_functions_of_the_site_are_commands_too(
    run_pass: RunPass, tmp_path: Path, line: str, message: str
) -> None:
    (tmp_path / "site.nhc").write_text(FUNCTIONS)
    heard = Heard()

    result = await run_pass(f"* || here() {{ return 6; }}\n* || {line}\n* || check_shows LATE\n", heard)

    assert [finding.message for finding in result.findings] == ["", message, "check_shows:  unset"]
    assert set(heard.lines) <= {"of stderr", "not for the node"}


async def test_a_function_that_is_killed_amid_a_question_costs_the_next_line_nothing(
    run_pass: RunPass, tmp_path: Path
) -> None:
    (tmp_path / "site.nhc").write_text(FUNCTIONS)

    result = await run_pass("* || check_cmd_status -t 1 asks_and_sleeps\n* || check_cmd_status -r 3 says\n")

    assert [finding.status for finding in result.findings] == [Status.FAILED, Status.OK]


async def test_what_a_function_leaves_behind_is_killed(run_pass: RunPass, tmp_path: Path) -> None:
    (tmp_path / "site.nhc").write_text(FUNCTIONS)
    assert (await run_pass(f"* || check_cmd_status goes {tmp_path}/pid\n")).verdict.is_good

    stat = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    await eventually(lambda: not stat.exists() or " Z " in stat.read_text())


async def test_exports_reach_the_commands_of_checks(run_pass: RunPass) -> None:
    result = await run_pass("* || export SITE=hpc\n* || check_cmd_output -m SITE=hpc env\n")

    assert result.verdict.is_good


async def test_for_an_offline_tree_nothing_is_executed(
    run_pass: RunPass, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*args: object, **keywords: object) -> None:
        raise AssertionError("something was started")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    (tmp_path / "site.nhc").write_text("touch /should/not/be/sourced\nLIMIT=3\n" + FUNCTIONS)
    lines = ["check_cmd_status true", "check_cmd_status says", "says x", "[[ -e / ]] || die 1 x", "check_good"]

    result = await run_pass("".join(f"* || {line}\n" for line in lines), root=tmp_path)

    assert [finding.status for finding in result.findings] == [Status.UNKNOWN] * 4 + [Status.OK]
    assert all("only a running system" in finding.message for finding in result.findings[:4])


async def test_lines_that_go_by_hardware_are_unknown_where_it_cannot_be_told(run_pass: RunPass, tmp_path: Path) -> None:
    text = "* || LIMIT=$((2*HW_CORES))\n* || check_good $LIMIT\n* || check_good $HW_RAM_TOTAL\n* || check_good x\n"

    result = await run_pass(text, root=tmp_path)

    assert [finding.status for finding in result.findings] == [Status.UNKNOWN, Status.UNKNOWN, Status.OK]
    assert SEEN == [["x"]]
