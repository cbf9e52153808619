# SPDX-License-Identifier: Apache-2.0
"""This machine: which boot it is in, and what each way to reboot runs. Nothing here reboots anything."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from refloat_agent.effects import power
from refloat_agent.effects.power import MachinePower
from refloat_agent.recipes import Way
from refloat_checks.proc import Roots
from refloat_contract.errors import Refused, Transient
from refloat_service import commands
from refloat_service.completed import Completed

KERNEL = "1a2b3c4d-0000-4000-8000-000000000000"


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    (tmp_path / "proc/sys/kernel/random").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text(f"{KERNEL}\n")
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    return Roots(proc=tmp_path / "proc", sys=tmp_path / "sys", root=tmp_path)


def _power(roots: Roots, program: str = "") -> MachinePower:
    return MachinePower(("site-reboot",), 5.0, roots, count_command=(sys.executable, "-c", program))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[str, ...], str]]:
    argvs: list[tuple[tuple[str, ...], str]] = []

    async def run(argv: Sequence[str], *, deadline_s: float, env: dict[str, str]) -> Completed:
        argvs.append((tuple(argv), env.get("SYSTEMCTL_SKIP_AUTO_SOFT_REBOOT", "")))
        return Completed(tuple(argv), 0, "", "", 0.0)

    # The real thing would reboot the machine that runs the tests.
    monkeypatch.setattr(commands, "run", run)
    return argvs


@pytest.mark.parametrize(
    ("program", "boot_id"),
    [("print(0)", KERNEL), ("print(2)", f"{KERNEL}.2"), ("print()", KERNEL), ("print('[not set]')", KERNEL)],
)
def test_a_boot_is_named_by_the_kernel_and_by_how_often_it_was_rebooted_softly(
    roots: Roots, program: str, boot_id: str
) -> None:
    assert _power(roots, program).boot_id() == boot_id


def test_a_systemd_that_does_not_answer_is_not_guessed_at(roots: Roots) -> None:
    with pytest.raises(Transient, match="no bus"):
        _power(roots, "raise SystemExit('no bus')").boot_id()


def test_without_systemd_nothing_is_asked(roots: Roots) -> None:
    (roots.root / "run/systemd/system").rmdir()

    assert _power(roots, "raise SystemExit('no bus')").boot_id() == KERNEL


@pytest.mark.parametrize(
    ("way", "argv"),
    [
        (Way.SYSTEMD, ("site-reboot",)),
        (Way.FORCE, ("systemctl", "reboot", "--force")),
        (Way.FORCE_FORCE, ("systemctl", "reboot", "--force", "--force")),
        (Way.SOFT, ("systemctl", "soft-reboot")),
        (Way.KEXEC, ("systemctl", "kexec")),
    ],
)
async def test_each_way_runs_its_command_and_no_other_kind_of_reboot(
    roots: Roots, ran: list[tuple[tuple[str, ...], str]], way: Way, argv: tuple[str, ...]
) -> None:
    (roots.sys / "kernel/kexec_loaded").write_text("1\n")
    machine = _power(roots, "print(0)")
    await asyncio.to_thread(machine.boot_id)

    await machine.reboot(way)

    assert ran == [(argv, "1")]


async def test_a_soft_reboot_that_could_not_be_proven_is_not_tried(
    roots: Roots, ran: list[tuple[tuple[str, ...], str]]
) -> None:
    machine = _power(roots, "print()")
    await asyncio.to_thread(machine.boot_id)

    with pytest.raises(Refused, match="could not be proven"):
        await machine.reboot(Way.SOFT)

    assert ran == []


@pytest.mark.parametrize("loaded", ["0\n", None])
async def test_no_kexec_without_a_kernel_to_go_to(
    roots: Roots, ran: list[tuple[tuple[str, ...], str]], loaded: str | None
) -> None:
    if loaded is not None:
        (roots.sys / "kernel/kexec_loaded").write_text(loaded)

    with pytest.raises(Refused, match="kexec"):
        await _power(roots).reboot(Way.KEXEC)

    assert ran == []


async def test_sysrq_syncs_and_remounts_before_it_reboots(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    pressed: list[str] = []
    monkeypatch.setattr(power, "_SYSRQ_PAUSE_S", 0.0)
    monkeypatch.setattr(MachinePower, "_press", lambda self, key: pressed.append(key))

    await _power(roots).reboot(Way.SYSRQ)

    assert pressed == ["s", "u", "b"]


async def test_a_kernel_without_sysrq_says_so(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="sysrq-trigger"):
        await MachinePower((), 5.0, Roots(proc=tmp_path / "none")).reboot(Way.SYSRQ)
