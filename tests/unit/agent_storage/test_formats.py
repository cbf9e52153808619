# SPDX-License-Identifier: Apache-2.0
"""What the tools print and the kernel shows, as it is documented, and what is read from it."""

import shutil
import subprocess

import pytest

from refloat_agent.effects.storage import table, transport
from refloat_agent.effects.storage.lustre import Import, fsname_of, parse_imports
from refloat_agent.effects.storage.systemd import escape, parse_show
from refloat_checks.proc import Mount

# proc(5): /proc/PID/mountinfo. The NFS options are those that nfs(5) documents, the others their filesystems'.
MOUNTINFO = r"""22 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw
61 28 0:52 / /home rw,relatime shared:31 - nfs4 nfs1:/export/home rw,vers=4.2,proto=rdma,port=20049,addr=10.0.0.9
70 28 0:54 / /scratch rw,nosuid,relatime shared:40 - lustre 10.0.0.1@o2ib:10.0.0.2@o2ib:/scratch rw,flock,lazystatfs
71 28 0:55 / /gpfs/work rw,relatime shared:41 - gpfs work rw
72 28 0:56 / /mnt/bee\040gfs rw,relatime shared:42 - beegfs beegfs_nodev rw,cfgFile=/etc/beegfs/beegfs-client.conf
73 28 0:57 / /data rw,relatime shared:43 - autofs systemd-1 rw,fd=51,pgrp=1,timeout=0,direct
74 73 0:52 /sub /data rw,relatime shared:31 - nfs4 nfs1:/export/home/sub ro,vers=4.2,proto=tcp6,addr=fd00::9
"""


def test_a_mount_keeps_its_own_number_and_its_filesystem_s() -> None:
    seen = table.parse(MOUNTINFO)
    home, data = seen.at("/home"), seen.at("/data")

    assert home is not None
    assert data is not None
    assert (home.id, home.device) == ("61", "0:52")
    assert (data.id, data.device, data.mount.fstype) == ("74", home.device, "nfs4")
    assert [entry.mount.point for entry in seen.of_type("gpfs")] == ["/gpfs/work"]
    assert seen.at("/mnt/bee gfs") is not None
    assert seen.at("/mnt") is None


@pytest.mark.parametrize(
    ("point", "ways"),
    [("/home", {"rdma"}), ("/data", {"tcp"}), ("/scratch", {"o2ib"}), ("/gpfs/work", set()), ("/proc", set())],
)
def test_the_mount_table_tells_transports_where_it_can(point: str, ways: set[str]) -> None:
    found = table.parse(MOUNTINFO).at(point)

    assert found is not None
    assert transport.of_mount(found.mount) == ways


def test_all_lnets_of_a_source_are_told_without_their_numbers() -> None:
    source = "10.0.0.1@o2ib1,192.168.0.1@tcp:10.0.0.2@o2ib1,192.168.0.2@tcp:/scratch/project"

    assert transport.of_mount(Mount("/p", source, "lustre", frozenset())) == {"o2ib", "tcp"}
    assert fsname_of(source) == "scratch"


def test_a_line_that_is_none_of_a_mount_table_is_refused() -> None:
    with pytest.raises(ValueError, match="not a line of mountinfo"):
        table.parse("61 28 0:52 / /home rw\n")


# systemctl(1), `show`: for several units blocks with a blank line between; a unit that there is not is "not-found".
SHOW = """\
Id=scratch.automount
LoadState=not-found
ActiveState=inactive

Id=scratch.mount
LoadState=loaded
ActiveState=active
"""


def test_units_are_read_block_by_block() -> None:
    units = parse_show(SHOW)

    assert units["scratch.automount"] == {
        "Id": "scratch.automount",
        "LoadState": "not-found",
        "ActiveState": "inactive",
    }
    assert units["scratch.mount"]["ActiveState"] == "active"
    assert parse_show("") == {}


PATHS = {
    "/": "-",
    "/scratch": "scratch",
    "/gpfs/work/": "gpfs-work",
    "//gpfs//work": "gpfs-work",
    "/mnt/a-b c": r"mnt-a\x2db\x20c",
    "/.hidden/.b": r"\x2ehidden-.b",
    "/data/ü": r"data-\xc3\xbc",
    "/x:y_z.1": "x:y_z.1",
}


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_named_as_systemd_names_its_unit(path: str) -> None:
    assert escape(path) == PATHS[path]


@pytest.mark.skipif(shutil.which("systemd-escape") is None, reason="no systemd-escape here")
def test_systemd_escape_says_the_same() -> None:
    said = subprocess.run(["systemd-escape", "--path", *PATHS], capture_output=True, text=True, check=True).stdout

    assert said.split() == [escape(path) for path in PATHS]


# Lustre Operations Manual, lctl get_param *.*.import; the fields are those of lprocfs_rd_import in Lustre's sources.
IMPORTS = """\
mdc.scratch-MDT0000-mdc-ffff9a3b4c5d6000.import=
import:
    name: scratch-MDT0000-mdc-ffff9a3b4c5d6000
    target: scratch-MDT0000_UUID
    state: FULL
    connect_flags: [ write_grant, server_lock, version ]
    connection:
       failover_nids: [ 10.0.0.1@o2ib, 10.0.0.2@o2ib ]
       current_connection: 10.0.0.2@o2ib
       connection_attempts: 3
    rpcs:
       inflight: 0
       unregistering: 0
osc.scratch-OST0001-osc-ffff9a3b4c5d6000.import=
import:
    name: scratch-OST0001-osc-ffff9a3b4c5d6000
    target: scratch-OST0001_UUID
    state: DISCONN
    connection:
       failover_nids: [ 10.0.0.3@o2ib ]
       current_connection: <none>
       connection_attempts: 31
"""


def test_imports_are_read_target_by_target() -> None:
    assert parse_imports(IMPORTS) == (
        Import("scratch-MDT0000", is_metadata=True, state="FULL", connection="10.0.0.2@o2ib"),
        Import("scratch-OST0001", is_metadata=False, state="DISCONN", connection=""),
    )
    assert parse_imports("") == ()
    assert parse_imports("mdc.a-MDT0000-mdc-f00.import=\n") == (Import("a-MDT0000", True, "", ""),)  # noqa: FBT003
