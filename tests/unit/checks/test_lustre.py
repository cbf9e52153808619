# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refloat_checks.facts import Facts
from refloat_checks.lustre import Client, Import, LustreLimits, judge, look
from refloat_contract.words import Status


def imported(target: str, state: str = "FULL", *, is_active: bool = True) -> Import:
    fsname, _, rest = target.partition("-")
    return Import(target, fsname, rest[:3], state, is_active)


GOOD = (imported("scratch-MDT0000"), imported("scratch-OST0000"), imported("scratch-OST0001", "IDLE"))
FINE = "all 3 targets are connected"


@pytest.mark.parametrize(
    ("imports", "health", "limits", "status", "message"),
    [
        (GOOD, "healthy", {"min_osts": 2}, Status.OK, FINE),
        (GOOD, "", {}, Status.OK, FINE),
        (GOOD, "NOT HEALTHY\ndevice x\n", {}, Status.FAILED, "Lustre says of itself: NOT HEALTHY device x"),
        (GOOD, "", {"min_osts": 3}, Status.FAILED, "2 OSTs of * (should be 3)"),
        (GOOD, "", {"fsname": "home"}, Status.FAILED, "0 MDTs of home (should be 1); 0 OSTs of home (should be 1)"),
        (
            (*GOOD, imported("home-OST0000", "DISCONN")),
            "",
            {},
            Status.FAILED,
            "1 of 4 targets are not connected: home-OST0000 DISCONN",
        ),
        ((*GOOD, imported("home-OST0000", "DISCONN")), "", {"fsname": "scratch"}, Status.OK, FINE),
        ((*GOOD, imported("scratch-OST0002", "DISCONN", is_active=False)), "", {}, Status.OK, FINE),
        (GOOD, "", {"states": ["FULL"]}, Status.FAILED, "1 of 3 targets are not connected: scratch-OST0001 IDLE"),
        (
            (),
            "healthy",
            {},
            Status.UNKNOWN,
            "no import table of Lustre can be read: it is not loaded, or debugfs is not mounted",
        ),
    ],
)
def test_a_client_is_judged(
    imports: tuple[Import, ...], health: str, limits: dict[str, Any], status: Status, message: str
) -> None:
    finding = judge(Client(imports, health), LustreLimits(**limits), "l")

    assert (finding.status, finding.message) == (status, message)


def table(target: str, state: str) -> str:
    return (
        f"import:\n    name: {target}-osc-ffff\n    target: {target}_UUID\n    state: {state}\n"
        "    connect_flags: [ write_grant, version ]\n    import_flags: [ replayable ]\n"
    )


@pytest.mark.parametrize("parent", ["sys/kernel/debug/lustre", "proc/fs/lustre"])
async def test_the_given_tables_are_read(
    facts: Facts, add_sys: Callable[[dict[str, str]], None], tmp_path: Path, parent: str
) -> None:
    above = "../" + parent
    add_sys(
        {
            f"{above}/mdc/s-MDT0000-mdc-f/import": table("s-MDT0000", "FULL"),
            f"{above}/osc/my-fs-OST001f-osc-f/import": table("my-fs-OST001f", "CONNECTING"),
            f"{above}/osc/s-OST0001-osc-f/import": table("s-OST0001", "DISCONN"),
            "fs/lustre/osc/s-OST0001-osc-f/active": "0\n",
            "fs/lustre/health_check": "healthy\n",
        }
    )

    finding = await look(facts, LustreLimits(), "l")

    assert finding.message == "1 of 2 targets are not connected: my-fs-OST001f CONNECTING"
    assert finding.measures == {"osts": 1, "mdts": 1, "disconnected": 1}
