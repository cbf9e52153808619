# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat_contract import reasons
from refloat_contract.reasons import (
    DEFAULT_WORDS,
    Dialect,
    Foreign,
    Health,
    Hold,
    NoReason,
    Progress,
    Reason,
    Release,
    Trigger,
    parse,
)

REBOOT, GPFS, RECONFIGURE = DEFAULT_WORDS
BOOT = "0123ABCD-89ab-4000-8000-000000000000"
VALUES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,30}", fullmatch=True)
IDS = st.from_regex(r"[0-9a-f]{8}", fullmatch=True)
SUFFIXES = st.sampled_from(["", " : Not responding", " : Not responding : Not responding"])


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", NoReason()),
        ("  \t", NoReason()),
        ("reboot", Trigger(REBOOT)),
        ("REBOOT", Trigger(REBOOT)),
        ("reboot: kernel update", Trigger(REBOOT)),
        ("reboot : Not responding", Trigger(REBOOT)),
        ("reboot image=compute-3f2a1c wave=w12", Trigger(REBOOT, "compute-3f2a1c", "w12")),
        ("reboot wave=w12 please image=a image=b", Trigger(REBOOT, "a", "w12")),
        ("gpfs-restart", Trigger(GPFS)),
        ("reconfigure: now", Trigger(RECONFIGURE)),
        ("rebooting", Progress(REBOOT)),
        ("rebooting : Not responding", Progress(REBOOT)),
        ("gpfs-restarting", Progress(GPFS)),
        ("rebooting refloat=c1 boot=0123abcd image=i wave=w", Progress(REBOOT, "c1", "0123abcd", "i", "w")),
        ("rebooting refloat=c1 was: bad dimm image=x", Progress(REBOOT, "c1", prior="bad dimm image=x")),
        ("refloat-hold: it failed refloat=c1", Hold("it failed", "c1")),
        ("refloat-hold: it failed refloat=c1 : Not responding", Hold("it failed", "c1")),
        ("refloat-hold: job refloat=evil ran refloat=c1", Hold("job refloat=evil ran", "c1")),
        ("refloat-hold: by hand", Hold("by hand")),
        ("refloat-hold: it failed refloat=c1 was: bad dimm", Hold("it failed", "c1", "bad dimm")),
        ("refloat-hold: it failed refloat=c1 was: bad dimm : Not responding", Hold("it failed", "c1", "bad dimm")),
        ("refloat-release: alice: by mistake refloat=c1", Release("alice: by mistake", "c1")),
        ("refloat-release: alice refloat=c1 was: bad dimm", Release("alice", "c1", "bad dimm")),
        ("refloat-release: by hand", Release("by hand")),
        ("reboot was: bad dimm", Trigger(REBOOT, prior="bad dimm")),
        ("reboot was: reboot", Trigger(REBOOT)),
        ("rebooting refloat=c1 was: refloat: labd: x", Progress(REBOOT, "c1")),
        ("refloat: labd: not running", Health("labd: not running")),
        ("refloat: labd : Not responding", Health("labd")),
        ("reboots are bad", Foreign("reboots are bad")),
        ("please reboot", Foreign("please reboot")),
        ("rebootimage=x", Foreign("rebootimage=x")),
        ("refloat:labd", Foreign("refloat:labd")),
        ("Reboot ASAP", Foreign("Reboot ASAP")),
        ("reboot : reboot issued", Foreign("reboot : reboot issued")),
        ("kernel update : reboot requested", Foreign("kernel update : reboot requested")),
        ("reboot : reboot issued : reboot timed out", Foreign("reboot : reboot issued : reboot timed out")),
        ("Node unexpectedly rebooted", Foreign("Node unexpectedly rebooted")),
        ("Not responding", Foreign("Not responding")),
        ("NHC: check_fs_mount", Foreign("NHC: check_fs_mount")),
        ("$(reboot)", Foreign("$(reboot)")),
    ],
)
def test_a_reason_means(text: str, meant: Reason) -> None:
    assert parse(text) == meant


def test_drains_of_nhc_are_ours_only_where_a_site_adopts_them() -> None:
    dialect = Dialect(adopted_prefixes=("NHC:",))

    assert parse("NHC: check_fs", dialect) == Health("check_fs", adopted=True)
    assert parse("NHC:check_fs", dialect) == Foreign("NHC:check_fs")


@given(st.text())
def test_any_text_means_something(text: str) -> None:
    assert parse(text) is not None


@given(st.sampled_from(DEFAULT_WORDS), IDS, VALUES | st.just(""), VALUES | st.just(""), st.text(), SUFFIXES)
def test_progress_is_read_as_it_was_written(
    word: reasons.Word, cycle: str, image: str, wave: str, prior: str, suffix: str
) -> None:
    line = reasons.write_progress(word, cycle=cycle, boot_id=BOOT, image=image, wave=wave, prior=prior)

    read = parse(line + suffix)

    if isinstance(read, Foreign):
        assert "reboot" in prior.lower()  # what Slurm's own reboot wrote is no business of ours, even as a prior
        return
    assert isinstance(read, Progress)
    assert (read.word, read.cycle, read.boot, read.image, read.wave) == (word, cycle, "0123abcd", image, wave)
    if "Not responding" not in prior:
        assert read.prior == reasons.one_line(prior)


@given(st.text(), IDS, SUFFIXES)
def test_a_hold_keeps_its_cycle_whatever_its_sentence_says(sentence: str, cycle: str, suffix: str) -> None:
    read = parse(reasons.write_hold(sentence, cycle) + suffix)

    if not isinstance(read, Foreign):
        assert isinstance(read, Hold)
        assert read.cycle == cycle


@given(st.sampled_from(DEFAULT_WORDS), VALUES | st.just(""), VALUES | st.just(""), SUFFIXES)
def test_a_trigger_is_read_as_it_was_written(word: reasons.Word, image: str, wave: str, suffix: str) -> None:
    assert parse(reasons.write_trigger(word, image=image, wave=wave) + suffix) == Trigger(word, image, wave)


@given(st.text(), st.integers(1, 300))
def test_one_line_is_one_short_printable_line(text: str, limit: int) -> None:
    line = reasons.one_line(text, limit)

    assert len(line) <= limit
    assert line.isprintable()
    assert '"' not in line
    assert line == line.strip()
    assert reasons.one_line(line, limit) == line


def test_a_health_reason_names_the_first_failure_and_counts_the_rest() -> None:
    assert reasons.write_health([("a", "x"), ("b", "y"), ("c", "z")]) == "refloat: a: x (+2 more)"


@pytest.mark.parametrize(
    ("failures", "reason", "same"),
    [
        ([("load", "98.5 (limit 64)")], "refloat: load: 99 (limit 64) : Not responding", True),
        ([("load", "98.5 (limit 64)")], "refloat: load: 98.5 (limit 64) (+1 more)", False),
        ([("a", "x"), ("b", "y")], "refloat: a: x (+1 more)", True),
        ([("a", "x"), ("b", "y")], "refloat: a: x (+2 more)", False),
        ([("eth1", "down")], "refloat: eth0: down", False),
        ([("eth1", "down")], "refloat: eth1: gone", False),
        ([("a", "x")], "NHC: a: x", False),
        ([('a"b', "x")], "refloat: a'b: x", True),
    ],
)
def test_a_health_reason_is_news_when_what_fails_changes_and_not_when_a_figure_does(
    failures: list[tuple[str, str]], reason: str, *, same: bool
) -> None:
    assert reasons.is_health(failures, reason) is same


@pytest.mark.parametrize("text", ["", "-x", "a b", "a;b", "$(x)", "`x`", "a'b", "a" * 129, "a\n"])
def test_what_a_shell_might_see_is_no_option_value(text: str) -> None:
    assert not reasons.is_option_value(text)


def test_slurm_s_additions_do_not_make_a_reason_another() -> None:
    assert reasons.is_same("bad dimm : Not responding", "bad dimm")
    assert not reasons.is_same("bad dimm", "bad dimms")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "rebooting refloat=c1 boot=1a2b3c4d"),
        ({"step": 3}, "rebooting refloat=c1 boot=1a2b3c4d step=3"),
        ({"reboot_try": 2, "image": "i"}, "rebooting refloat=c1 boot=1a2b3c4d try=2 image=i"),
        ({"step": 1, "reboot_try": 3, "prior": "dimm step=9"}, None),
    ],
)
def test_a_progress_says_the_step_and_the_try_only_where_they_matter(options: dict[str, Any], text: str | None) -> None:
    written = reasons.write_progress(reasons.DEFAULT_WORDS[0], cycle="c1", boot_id="1A2B3C4D-0000", **options)
    read = reasons.parse(f"{written} : Not responding")

    assert text in {None, written}
    assert isinstance(read, reasons.Progress)
    assert (read.step, read.reboot_try) == (options.get("step", 0), options.get("reboot_try", 1))


@pytest.mark.parametrize("word", ["step=x", "step=-1", "step=99999999999999999999", "step=", "try=0"])
def test_a_step_that_is_no_number_says_nothing(word: str) -> None:
    read = reasons.parse(f"rebooting refloat=c1 boot=1a2b3c4d {word}")

    assert isinstance(read, reasons.Progress)
    assert (read.cycle, read.step, read.reboot_try) == ("c1", 0, 1)


def test_a_boot_after_soft_reboots_is_another_boot() -> None:
    assert reasons.short_boot("1a2b3c4d-0000-4000-8000-000000000000.2") == "1a2b3c4d.2"
