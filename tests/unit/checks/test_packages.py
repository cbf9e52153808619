# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from refloat_checks.facts import Facts
from refloat_checks.packages import (
    PackageLimits,
    dpkg_argv,
    judge,
    look,
    rpm_argv,
    versions_of_dpkg,
    versions_of_rpm,
)
from refloat_contract.words import Status
from refloat_service.completed import Completed


def done(status: int, stdout: str = "") -> Completed:
    return Completed(("tool",), status, stdout, "", 0.1)


@pytest.mark.parametrize(
    ("versions", "limits", "status", "message"),
    [
        (("1.2-3",), {}, Status.OK, "package p is installed: 1.2-3"),
        (("1.2-3",), {"version": "1.2-*"}, Status.OK, "package p is installed: 1.2-3"),
        (("1.2-3", "1.3-1"), {"version": "1.3-*"}, Status.OK, "package p is installed: 1.2-3, 1.3-1"),
        (("1.2-3",), {"version": "1.3"}, Status.FAILED, "package p is installed: 1.2-3 (should be 1.3)"),
        (("1.2-3",), {"installed": False}, Status.FAILED, "package p is installed: 1.2-3 (should not be)"),
        ((), {}, Status.FAILED, "package p is not installed"),
        ((), {"installed": False}, Status.OK, "package p is not installed"),
        (None, {"installed": False}, Status.UNKNOWN, "neither rpm nor dpkg can tell of package p"),
    ],
)
def test_a_package_is_judged(
    versions: tuple[str, ...] | None, limits: dict[str, Any], status: Status, message: str
) -> None:
    finding = judge(versions, PackageLimits(package="p", **limits), "p")

    assert (finding.status, finding.message) == (status, message)


@pytest.mark.parametrize(
    ("completed", "versions"),
    [
        (done(0, "5.14-1.el9\n5.14-2.el9\n"), ("5.14-1.el9", "5.14-2.el9")),
        (done(1, "package p is not installed\n"), ()),
        (done(1, "error: rpmdb open failed\n"), None),
        (done(-9), None),
    ],
)
def test_what_rpm_says_is_understood(completed: Completed, versions: tuple[str, ...] | None) -> None:
    assert versions_of_rpm(completed) == versions


@pytest.mark.parametrize(
    ("completed", "versions"),
    [
        (done(0, "installed 9.1-1+deb12u1\n"), ("9.1-1+deb12u1",)),
        (done(0, "config-files 9.1-1\n"), ()),
        (done(1), ()),
        (done(2), None),
    ],
)
def test_what_dpkg_says_is_understood(completed: Completed, versions: tuple[str, ...] | None) -> None:
    assert versions_of_dpkg(completed) == versions


def test_an_offline_tree_is_asked_for_its_own_packages() -> None:
    assert "--root=/image" in rpm_argv("p", Path("/image"))
    assert "--root=/image" in dpkg_argv("p", Path("/image"))
    assert not any(word.startswith("--root") for word in rpm_argv("p", Path("/")) + dpkg_argv("p", Path("/")))


@pytest.mark.parametrize("package", ["-e", "", "a b", "*"])
def test_what_is_no_package_is_refused(package: str) -> None:
    with pytest.raises(ValidationError):
        PackageLimits(package=package)


@pytest.mark.parametrize(
    ("rpm", "dpkg", "status"),
    [
        (("1.0-1", 0), ("", 1), Status.OK),
        (("package p is not installed", 1), ("installed 1.0-1", 0), Status.OK),
        (("package p is not installed", 1), ("", 1), Status.FAILED),
        (("error: cannot open Packages database", 1), ("", 2), Status.UNKNOWN),
    ],
)
async def test_both_are_asked(
    facts: Facts, add_program: Callable[..., Path], rpm: tuple[str, int], dpkg: tuple[str, int], status: Status
) -> None:
    add_program("rpm", *rpm)
    add_program("dpkg-query", *dpkg)

    assert (await look(facts, PackageLimits(package="p"), "p")).status is status


async def test_a_system_that_has_neither_is_unknown(
    facts: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert (await look(facts, PackageLimits(package="p"), "p")).status is Status.UNKNOWN
