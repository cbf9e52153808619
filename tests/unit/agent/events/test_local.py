# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from refloat_agent.events.local import NotLocal, Place, places
from refloat_checks.proc import Mount, Roots, read_mounts

ROOT = Mount("/", "/dev/sda1", "ext4", frozenset({"rw"}))


def mounted(point: str | Path, fstype: str) -> tuple[Mount, ...]:
    return ROOT, Mount(str(point), "somewhere", fstype, frozenset({"rw"}))


def test_a_path_goes_through_each_of_its_directories(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    way = list(places(f"{tmp_path}/a/key", (ROOT,)))

    assert way[0] == Place("/", tmp_path.parts[1])
    assert way[-2:] == [Place(str(tmp_path), "a"), Place(f"{tmp_path}/a", "key")]


def test_what_is_not_there_yet_ends_the_way(tmp_path: Path) -> None:
    assert list(places(f"{tmp_path}/a/b/c", (ROOT,)))[-1] == Place(str(tmp_path), "a")


def test_links_are_followed_and_watched_themselves(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/key").touch()
    (tmp_path / "relative").symlink_to("real")
    (tmp_path / "absolute").symlink_to(tmp_path / "relative")
    (tmp_path / "up").symlink_to("real/../real")

    way = list(places(f"{tmp_path}/absolute/key", (ROOT,)))
    assert Place(str(tmp_path), "absolute") in way
    assert Place(str(tmp_path), "relative") in way
    assert way[-1] == Place(f"{tmp_path}/real", "key")
    assert list(places(f"{tmp_path}/up/key", (ROOT,)))[-1] == Place(f"{tmp_path}/real", "key")


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    assert len(list(places(f"{tmp_path}/a", (ROOT,)))) < 100


@pytest.mark.parametrize(
    "fstype", ["nfs", "nfs4", "lustre", "gpfs", "beegfs", "fuse.sshfs", "cifs", "ceph", "afs", "9p", "autofs", "weka"]
)
def test_a_filesystem_that_may_hang_is_not_entered(tmp_path: Path, fstype: str) -> None:
    (tmp_path / "home").mkdir()

    with pytest.raises(NotLocal, match=fstype.replace(".", r"\.")):
        list(places(f"{tmp_path}/home/key", mounted(tmp_path / "home", fstype)))


def test_nor_is_one_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "gpfs").mkdir()
    (tmp_path / "software").symlink_to(tmp_path / "gpfs/software")
    seen: list[Place] = []

    with pytest.raises(NotLocal, match="gpfs"):
        seen += places(f"{tmp_path}/software/key", mounted(tmp_path / "gpfs", "gpfs"))


def test_a_root_that_may_hang_has_nothing_to_watch() -> None:
    with pytest.raises(NotLocal):
        list(places("/etc/passwd", (Mount("/", "server:/root", "nfs", frozenset()),)))


def test_what_this_machine_runs_on_is_known() -> None:
    assert list(places("/etc/passwd", read_mounts(Roots())))
