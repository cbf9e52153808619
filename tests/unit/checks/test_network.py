# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest

from refloat_checks.facts import Facts
from refloat_checks.network import LinkLimits, judge, look
from refloat_checks.proc import Link
from refloat_contract.words import Status


@pytest.mark.parametrize(
    ("link", "limits", "status", "message"),
    [
        (None, {}, Status.FAILED, "link ib0 does not exist"),
        (Link("ib0", "up", carrier=True, speed_mbps=None), {}, Status.OK, "link ib0 is up"),
        (Link("ib0", "unknown", carrier=True, speed_mbps=None), {}, Status.OK, "link ib0 is up"),
        (
            Link("ib0", "unknown", carrier=None, speed_mbps=None),
            {},
            Status.FAILED,
            "link ib0 is without carrier (should be up)",
        ),
        (Link("ib0", "down", carrier=False, speed_mbps=None), {}, Status.FAILED, "link ib0 is down (should be up)"),
        (Link("ib0", "down", carrier=False, speed_mbps=None), {"up": False}, Status.OK, "link ib0 is down"),
        (
            Link("ib0", "up", carrier=True, speed_mbps=1000),
            {"min_speed_mbps": 10000},
            Status.FAILED,
            "link ib0 runs at 1000 Mb/s (limit 10000 Mb/s)",
        ),
        (
            Link("ib0", "up", carrier=True, speed_mbps=10000),
            {"min_speed_mbps": 10000},
            Status.OK,
            "link ib0 is up at 10000 Mb/s",
        ),
        (
            Link("ib0", "up", carrier=True, speed_mbps=None),
            {"min_speed_mbps": 1},
            Status.UNKNOWN,
            "the driver of link ib0 does not tell its speed",
        ),
    ],
)
def test_a_link_is_judged(link: Link | None, limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(link, LinkLimits(interface="ib0", **limits), "l")

    assert (finding.status, finding.message) == (status, message)


async def test_the_given_sys_is_looked_at(facts: Facts) -> None:
    (facts.roots.sys / "class" / "net" / "ib0").mkdir()
    (facts.roots.sys / "class" / "net" / "ib0" / "operstate").write_text("up\n")

    assert (await look(facts, LinkLimits(interface="ib0"), "l")).status is Status.OK


@pytest.fixture
def two_links(facts: Facts) -> Facts:
    (facts.roots.proc / "net").mkdir()
    (facts.roots.proc / "net" / "dev").write_text("Inter-| Receive\n face |bytes\n  ib0: 1 2\n  ib1: 1 2\n  lo: 0 0\n")
    for name, state in (("ib0", "up"), ("ib1", "down")):
        (facts.roots.sys / "class" / "net" / name).mkdir()
        (facts.roots.sys / "class" / "net" / name / "operstate").write_text(f"{state}\n")
    (facts.roots.proc / "modules").write_text("gm 1 0 - Live 0x0\n")
    return facts


@pytest.mark.parametrize(
    ("limits", "status", "message"),
    [
        ({"interface": "ib*"}, Status.FAILED, "link ib1 is down (should be up)"),
        ({"interface": "ib*", "up": False}, Status.OK, "link ib0 is up, link ib1 is down"),
        ({"interface": "ib?0"}, Status.FAILED, "there is no link ib?0"),
        ({"interface": "ib[0]", "module": "gm"}, Status.OK, "link ib0 is up"),
        ({"interface": "ib0", "module": "mx"}, Status.FAILED, "the module mx of link ib0 is not loaded"),
    ],
)
async def test_links_are_found_by_a_glob(
    two_links: Facts, limits: dict[str, Any], status: Status, message: str
) -> None:
    finding = await look(two_links, LinkLimits.model_validate(limits), "l")

    assert (finding.status, finding.message) == (status, message)
