# SPDX-License-Identifier: Apache-2.0
import ast
import json
import sys
from pathlib import Path

import pytest

from refloat_checks import probe_worker
from refloat_checks.probe_worker import answer, look_uid, within


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An offline tree with links that lead out of it, if they are not held inside."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nbroken\nbob:x:1234:1::/:/bin/sh\n")
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "lib").mkdir()
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "abs").symlink_to("/etc")
    (tmp_path / "up").symlink_to("../../../../etc")
    (tmp_path / "self").symlink_to("/self")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/etc/passwd", "etc/passwd"),
        ("/lib/x", "usr/lib/x"),
        ("/abs/passwd", "etc/passwd"),
        ("/up/passwd", "etc/passwd"),
        ("/../../etc", "etc"),
        ("//etc/./passwd", "etc/passwd"),
        ("/", ""),
    ],
)
def test_links_of_an_offline_tree_stay_inside_it(tree: Path, path: str, place: str) -> None:
    assert Path(within(str(tree), path)) == tree / place


def test_a_link_to_itself_ends(tree: Path) -> None:
    with pytest.raises(OSError, match="Too many levels"):
        within(str(tree), "/self")


def test_users_of_an_offline_tree_are_its_own(tree: Path) -> None:
    assert look_uid(str(tree), "bob") == 1234
    with pytest.raises(OSError, match="no user daemon"):
        look_uid(str(tree), "daemon")


def test_an_error_is_an_answer() -> None:
    request = json.dumps({"look": "stat", "arguments": ["/", "/no-such-path", True]})

    assert json.loads(answer(request)) == {"errno": 2, "error": "No such file or directory"}


def test_the_worker_needs_nothing_but_the_standard_library() -> None:
    tree = ast.parse(Path(probe_worker.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
