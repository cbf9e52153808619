# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest

from refloat_checks.facts import Facts
from refloat_checks.mounts import MountLimits, judge, look
from refloat_checks.proc import Mount, Roots
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
        ({"path": "/home", "options_match": "rw,nosuid,*"}, Status.OK, "/home"),
        (
            {"path": "/home", "options_match": "/(^|,)vers=4.1/"},
            Status.FAILED,
            "with options rw,nosuid,vers=4.2 (should be /(^|,)vers=4.1/)",
        ),
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


async def test_an_automounter_is_asked_before_the_table_is_read(facts: Facts, roots: Roots) -> None:
    await facts.mounts()
    with (roots.proc / "self" / "mountinfo").open("a") as table:
        table.write("33 22 0:46 / /auto rw - nfs4 nfs1:/auto rw\n")

    findings = [await look(facts, MountLimits(path="/auto", automount=each), "m") for each in (False, True)]

    assert [each.status for each in findings] == [Status.FAILED, Status.OK]
