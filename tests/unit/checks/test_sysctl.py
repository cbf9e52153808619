# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest
from pydantic import ValidationError

from refloat_checks.facts import Facts
from refloat_checks.sysctl import SysctlLimits, judge, look
from refloat_contract.words import Status


@pytest.mark.parametrize(
    ("text", "limits", "status", "message"),
    [
        ("1\n", {"value": "1"}, Status.OK, "a.b is 1"),
        ("2\n", {"value": "1"}, Status.FAILED, "a.b is 2 (should be 1)"),
        ("4096\t131072\t6291456\n", {"value": "4096 * 6291456"}, Status.OK, "a.b is 4096 131072 6291456"),
        ("9\n", {"at_least": 10}, Status.FAILED, "a.b is 9 (at least 10)"),
        ("10\n", {"at_least": 10, "at_most": 10}, Status.OK, "a.b is 10"),
        ("16777217\n", {"at_most": 16777216}, Status.FAILED, "a.b is 16777217 (at most 16777216)"),
        ("1 2\n", {"at_most": 3}, Status.UNKNOWN, "a.b is not one number: 1 2"),
        (None, {"value": "1"}, Status.UNKNOWN, "this kernel has no setting a.b"),
    ],
)
def test_a_setting_is_judged(text: str | None, limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(text, SysctlLimits(key="a.b", **limits), "s")

    assert (finding.status, finding.message) == (status, message)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("vm.swappiness", "vm/swappiness"),
        ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
    ],
)
def test_a_name_is_found_as_sysctl_finds_it(key: str, path: str) -> None:
    assert SysctlLimits(key=key, value="1").path == path


@pytest.mark.parametrize("key", ["../../etc/passwd", "/vm/swappiness", "vm", "vm..swappiness", ""])
def test_what_is_no_name_of_a_setting_is_refused(key: str) -> None:
    with pytest.raises(ValidationError):
        SysctlLimits(key=key, value="1")


def test_a_setting_of_which_nothing_is_asked_is_refused() -> None:
    with pytest.raises(ValidationError, match="must say what is asked for"):
        SysctlLimits(key="vm.swappiness")


async def test_the_given_proc_is_read(facts: Facts) -> None:
    (facts.roots.proc / "sys" / "vm").mkdir(parents=True)
    (facts.roots.proc / "sys" / "vm" / "swappiness").write_text("10\n")

    there = await look(facts, SysctlLimits(key="vm.swappiness", at_most=10), "s")
    missing = await look(facts, SysctlLimits(key="vm.no_such", at_most=10), "s")

    assert (there.status, there.measures["value"]) == (Status.OK, 10)
    assert missing.status is Status.UNKNOWN
