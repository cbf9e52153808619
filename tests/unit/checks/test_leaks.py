# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest
from pydantic import ValidationError

from refloat_checks.facts import Facts
from refloat_checks.leaks import Kept, LeakLimits, judge, look
from refloat_contract.words import Status

GB = 1 << 20
V2 = Kept(100 * GB, 20 * GB, 15 * GB, GB, 300, 7000)
V1 = Kept(100 * GB, 20 * GB, 15 * GB, GB, 300, None)
FINE = "the kernel keeps 20 GB in slabs, 15 GB of it for good"


@pytest.mark.parametrize(
    ("kept", "limits", "status", "message"),
    [
        (V2, {"max_slab": "20G", "max_slab_unreclaimable": "15%", "max_per_cpu": "1G"}, Status.OK, FINE),
        (V2, {"max_slab": "19%"}, Status.FAILED, "20 GB slab memory (limit 19%)"),
        (V2, {"max_slab_unreclaimable": "10G"}, Status.FAILED, "15 GB unreclaimable slab memory (limit 10G)"),
        (V2, {"max_per_cpu": "1M"}, Status.FAILED, "1 GB per-processor memory (limit 1M)"),
        (V2, {"max_cgroups": 300, "max_dying_cgroups": 7000}, Status.OK, FINE),
        (V2, {"max_cgroups": 299}, Status.FAILED, "300 control groups (limit 299)"),
        (V2, {"max_dying_cgroups": 6999}, Status.FAILED, "7000 dying control groups (limit 6999)"),
        (V1, {"max_dying_cgroups": 1}, Status.UNKNOWN, "this kernel does not count dying control groups"),
        (V1, {"max_dying_cgroups": 1, "max_slab": "1G"}, Status.FAILED, "20 GB slab memory (limit 1G)"),
    ],
)
def test_what_the_kernel_keeps_is_judged(kept: Kept, limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(kept, LeakLimits(**limits), "l")

    assert (finding.status, finding.message) == (status, message)


def test_a_check_that_asks_for_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least one of the keys"):
        LeakLimits()


@pytest.mark.parametrize(
    ("name", "text", "measures"),
    [
        ("sys/fs/cgroup/cgroup.stat", "nr_descendants 9\nnr_dying_descendants 2\n", {"cgroups": 9, "dying_cgroups": 2}),
        (
            "proc/cgroups",
            "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t2\t5\t1\nmemory\t3\t7\t1\n",
            {"cgroups": 7},
        ),
    ],
)
async def test_the_given_tables_are_read(facts: Facts, name: str, text: str, measures: dict[str, float]) -> None:
    (facts.roots.proc / "meminfo").write_text("MemTotal: 100 kB\nSlab: 9 kB\nSUnreclaim: 4 kB\nPercpu: 2 kB\n")
    place = facts.roots.proc.parent / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)

    finding = await look(facts, LeakLimits(max_slab="10%"), "l")

    assert finding.status is Status.OK
    assert finding.measures == {"slab_kb": 9, "slab_unreclaimable_kb": 4, "per_cpu_kb": 2, **measures}
