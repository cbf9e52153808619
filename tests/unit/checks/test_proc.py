# SPDX-License-Identifier: Apache-2.0
import os
from collections.abc import Callable

import pytest

from refloat_checks import proc
from refloat_checks.proc import Mount, Roots


def test_octal_escapes_are_undone_also_when_they_spell_utf8() -> None:
    assert proc.unescape(r"/a\040b\011c\134d\303\244") == "/a b\tc\\dä"


def test_a_read_only_filesystem_makes_its_mount_read_only(roots: Roots) -> None:
    mounts = proc.read_mounts(roots)

    mount = proc.mount_at(mounts, "/scratch one")
    assert mount is not None
    assert "ro" in mount.options
    assert "rw" not in mount.options


def test_the_last_mount_on_a_point_covers_the_others(roots: Roots) -> None:
    assert proc.mount_at(proc.read_mounts(roots), "/lustre") == Mount(
        "/lustre", "tmpfs", "tmpfs", frozenset({"rw", "nodev", "size=1k"})
    )


def test_proc_mounts_is_read_where_mountinfo_is_missing(roots: Roots) -> None:
    (roots.proc / "self" / "mountinfo").unlink()
    (roots.proc / "mounts").write_text("/dev/sda1 /a\\040b ext4 rw,nosuid 0 0\n")

    assert proc.read_mounts(roots) == (Mount("/a b", "/dev/sda1", "ext4", frozenset({"rw", "nosuid"})),)


@pytest.mark.parametrize("text", ["garbage\n", "1 2 3:4 / / rw ext4 /dev/sda rw\n", "1 2 - a b c\n"])
def test_a_mount_table_that_cannot_be_read_is_an_error_and_not_empty(text: str) -> None:
    with pytest.raises(ValueError, match="mountinfo"):
        proc.parse_mountinfo(text)


@pytest.mark.parametrize(
    ("path", "point"),
    [
        ("/lustre/a", "/lustre"),
        ("/lustre", "/lustre"),
        ("/lustrewood", "/"),
        ("/etc/passwd", "/"),
        ("/scratch one/x", "/scratch one"),
        ("/lustre//a/", "/lustre"),
        ("/", "/"),
    ],
)
def test_a_path_lies_in_the_longest_mount_above_it(roots: Roots, path: str, point: str) -> None:
    mounts = proc.read_mounts(roots)
    over = proc.mount_over(mounts, path)

    assert over is not None
    assert over.point == point
    assert proc.point_over({mount.point for mount in mounts}, path) == point


def test_a_comm_with_blanks_and_brackets_does_not_confuse_the_parser() -> None:
    assert proc.parse_stat("7 (a) R 99 (b) S 42 7 7 0\n") == ("a) R 99 (b", "S", 42)


@pytest.mark.parametrize(
    ("data", "argv"),
    [
        (b"/usr/bin/x\0-a\0", ("/usr/bin/x", "-a")),
        (b"sshd: /usr/sbin/sshd -D\0\0\0\0", ("sshd: /usr/sbin/sshd -D",)),
        (b"a\0\0b\0", ("a", "", "b")),
        (b"", ()),
    ],
)
def test_titles_are_split_at_their_nuls(data: bytes, argv: tuple[str, ...]) -> None:
    assert proc.parse_cmdline(data) == argv


def test_the_process_table_tells_owner_state_and_title(roots: Roots, add_process: Callable[..., None]) -> None:
    add_process(2, "kthreadd", ppid=0)
    add_process(9, "kworker/0:1", ppid=2, state="I")
    add_process(50, "daemon", b"/usr/sbin/daemon\0-f\0", uid=1000)
    (roots.proc / "60").mkdir()  # ended between the listing and the reading

    table = {process.pid: process for process in proc.read_processes(roots)}

    assert set(table) == {2, 9, 50}
    assert table[9].cmdline == "[kworker/0:1]"
    assert table[50].argv0 == "/usr/sbin/daemon"
    assert table[50].cmdline == "/usr/sbin/daemon -f"
    # Outside root the fixture's own owner is what the kernel would say.
    assert table[50].uid == (1000 if os.geteuid() == 0 else os.geteuid())


def test_our_own_process_is_found_in_the_real_table() -> None:
    own = next(process for process in proc.read_processes(Roots()) if process.pid == os.getpid())

    assert (own.ppid, own.uid) == (os.getppid(), os.geteuid())
    assert "py" in own.cmdline


def test_a_link_whose_driver_does_not_know_its_speed_has_none(roots: Roots) -> None:
    eth0 = roots.sys / "class" / "net" / "eth0"
    eth0.mkdir()
    (eth0 / "operstate").write_text("down\n")
    (eth0 / "carrier").write_text("0\n")
    (eth0 / "speed").write_text("-1\n")

    assert proc.read_link(roots, "eth0") == proc.Link("eth0", "down", carrier=False, speed_mbps=None)
    assert proc.read_link(roots, "eth1") is None
