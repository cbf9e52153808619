# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest

from refloat_checks.facts import Facts
from refloat_checks.mounts import MountLimits, judge, look
from refloat_checks.proc import Mount
from refloat_contract.words import Status

TABLE = (
    Mount("/", "/dev/sda1", "ext4", frozenset({"rw"})),
    Mount("/home", "nfs1:/export/home", "nfs4", frozenset({"rw", "nosuid", "vers=4.2"})),
    Mount("/apps", "/dev/sdb1", "xfs", frozenset({"ro"})),
)


@pytest.mark.parametrize(
    ("limits", "status", "words"),
    [
        ({"path": "/home"}, Status.OK, "nfs1:/export/home"),
        ({"path": "/home", "source": "nfs1:*", "fstype": "nfs*", "options": ["rw", "nosuid"]}, Status.OK, "nfs4"),
        ({"path": "/home", "source": "/^nfs[0-9]:/"}, Status.OK, "nfs1"),
        ({"path": "/home", "fstype": "!@(nfs|nfs4)"}, Status.FAILED, "type nfs4 (should be !@(nfs|nfs4))"),
        ({"path": "/scratch"}, Status.FAILED, "nothing is mounted on /scratch"),
        ({"path": "/hom"}, Status.FAILED, "nothing is mounted on /hom"),
        ({"path": "/home", "source": "nfs2:*"}, Status.FAILED, "nfs1:/export/home (should be nfs2:*)"),
        ({"path": "/home", "fstype": "lustre"}, Status.FAILED, "type nfs4 (should be lustre)"),
        ({"path": "/apps", "options": ["rw"]}, Status.FAILED, "without option rw"),
        ({"path": "/apps", "options": ["!ro"]}, Status.FAILED, "with option ro"),
        ({"path": "/apps", "options": ["!rw"]}, Status.OK, "/apps"),
        ({"path": "/apps", "fstype": "ext4", "options": ["rw"]}, Status.FAILED, ", and is mounted without option rw"),
        ({"path": "/mnt", "mounted": False}, Status.OK, "nothing is mounted on /mnt"),
        ({"path": "/home", "mounted": False}, Status.FAILED, "where nothing should be"),
    ],
)
def test_a_mount_is_judged(limits: dict[str, Any], status: Status, words: str) -> None:
    finding = judge(TABLE, MountLimits.model_validate(limits), "m")

    assert finding.status is status
    assert words in finding.message


async def test_the_mount_table_of_the_given_root_is_looked_at(facts: Facts) -> None:
    finding = await look(facts, MountLimits(path="/scratch one", options=("rw",)), "m")

    assert finding.status is Status.FAILED
