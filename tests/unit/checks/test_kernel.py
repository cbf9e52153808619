# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest
from pydantic import ValidationError

from refloat_checks.facts import Facts
from refloat_checks.kernel import Kernel, KernelLimits, judge, look, taints_of
from refloat_contract.words import Status

RUNS = Kernel("5.14.0-503.el9.x86_64", ("root=/dev/sda1", "mitigations=off"), "OEM")


@pytest.mark.parametrize(
    ("limits", "status", "message"),
    [
        ({"release": "5.14.0-503.*"}, Status.OK, "kernel 5.14.0-503.el9.x86_64 runs as it should"),
        ({"release": "5.14"}, Status.FAILED, "kernel 5.14.0-503.el9.x86_64 runs (should be 5.14)"),
        (
            {"cmdline": ["mitigations=*", "!nosmt*"]},
            Status.OK,
            "kernel 5.14.0-503.el9.x86_64 runs as it should",
        ),
        ({"cmdline": ["mitigations"]}, Status.FAILED, "the kernel was started without mitigations"),
        ({"cmdline": ["!root=*"]}, Status.FAILED, "the kernel was started with root=/dev/sda1 (should not)"),
        ({"untainted": "DL"}, Status.OK, "kernel 5.14.0-503.el9.x86_64 runs as it should"),
        ({"untainted": "MDE"}, Status.FAILED, "the kernel is tainted EM"),
    ],
)
def test_a_kernel_is_judged(limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(RUNS, KernelLimits(**limits), "k")

    assert (finding.status, finding.message) == (status, message)


@pytest.mark.parametrize(("number", "letters"), [(0, ""), (1 << 4 | 1 << 7, "MD"), (1 << 14, "L"), (1 << 40, "")])
def test_taints_are_spelt(number: int, letters: str) -> None:
    assert taints_of(number) == letters


@pytest.mark.parametrize("limits", [{}, {"untainted": "Q"}])
def test_what_asks_for_nothing_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        KernelLimits(**limits)


async def test_the_given_proc_is_read(facts: Facts) -> None:
    (facts.roots.proc / "sys" / "kernel").mkdir(parents=True)
    (facts.roots.proc / "sys" / "kernel" / "osrelease").write_text("6.1.0\n")
    (facts.roots.proc / "sys" / "kernel" / "tainted").write_text("16\n")
    (facts.roots.proc / "cmdline").write_text("quiet splash\n")

    finding = await look(facts, KernelLimits(release="6.*", cmdline=("quiet",), untainted="M"), "k")

    assert (finding.status, finding.message) == (Status.FAILED, "the kernel is tainted M")
