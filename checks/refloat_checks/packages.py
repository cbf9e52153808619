# SPDX-License-Identifier: Apache-2.0
"""Check that packages are installed, in the right version, as rpm or dpkg tell."""

from pathlib import Path
from typing import Final

from pydantic import Field

from refloat_checks import commands
from refloat_checks.api import Finding, Limits, failed, passed, unknown
from refloat_checks.facts import Facts
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.match_string import MatchString
from refloat_contract.errors import Refused
from refloat_service.completed import Completed

_RPM_FORMAT: Final = "%{VERSION}-%{RELEASE}\\n"
_DPKG_FORMAT: Final = "${db:Status-Status} ${Version}\\n"
_INSTALLED: Final = "installed "
_NOT_THERE: Final = 1  # of both: no such package


class PackageLimits(Limits):
    """Which package must be installed.

    ```toml
    [[check]]
    name = "mofed"
    type = "package"
    package = "mlnx-ofa_kernel"
    version = "24.10-*"
    when = "resume"
    ```
    """

    package: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9+._:-]*$", description="Its name, as rpm or dpkg know it.")
    version: MatchString | None = Field(
        None, description="Match string for its version, with rpm's release: `24.05.4-1.el9`."
    )
    installed: bool = Field(default=True, description="false: it must not be installed.")


def rpm_argv(package: str, root: Path) -> tuple[str, ...]:
    """Ask rpm for the versions of a package."""
    return ("rpm", *_root(root), "-q", f"--queryformat={_RPM_FORMAT}", package)


def dpkg_argv(package: str, root: Path) -> tuple[str, ...]:
    """Ask dpkg for the versions of a package."""
    return ("dpkg-query", *_root(root), "-W", f"--showformat={_DPKG_FORMAT}", package)


def _root(root: Path) -> tuple[str, ...]:
    return () if root == Path("/") else (f"--root={root}",)


def versions_of_rpm(done: Completed) -> tuple[str, ...] | None:
    """Give the installed versions that rpm told; None if it told nothing of the package."""
    if done.returncode == 0:
        return tuple(done.stdout.split())
    return () if done.returncode == _NOT_THERE and "is not installed" in done.stdout else None


def versions_of_dpkg(done: Completed) -> tuple[str, ...] | None:
    """Give the installed versions that dpkg told; None if it told nothing of the package."""
    if done.returncode == 0:
        lines = done.stdout.splitlines()
        return tuple(line.removeprefix(_INSTALLED) for line in lines if line.startswith(_INSTALLED))
    return () if done.returncode == _NOT_THERE else None


def judge(versions: tuple[str, ...] | None, limits: PackageLimits, name: str) -> Finding:
    """Compare the installed versions with what is asked for; None: nobody could tell."""
    if versions is None:
        return unknown(name, f"neither rpm nor dpkg can tell of package {limits.package}")
    if not versions:
        message = f"package {limits.package} is not installed"
        return failed(name, message) if limits.installed else passed(name, message)
    message = f"package {limits.package} is installed: {', '.join(versions)}"
    if not limits.installed:
        return failed(name, f"{message} (should not be)")
    if limits.version is not None and not any(matches(limits.version, version) for version in versions):
        return failed(name, f"{message} (should be {limits.version})")
    return passed(name, message)


async def look(facts: Facts, limits: PackageLimits, name: str) -> Finding:
    """Ask those of rpm and dpkg that there are."""
    return judge(await installed(limits.package, facts.roots.root), limits, name)


async def installed(package: str, root: Path) -> tuple[str, ...] | None:
    """The installed versions of a package, by those of rpm and dpkg that there are; None: nobody can tell."""
    told = []
    for argv, versions_of in ((rpm_argv(package, root), versions_of_rpm), (dpkg_argv(package, root), versions_of_dpkg)):
        try:
            told.append(versions_of(await commands.run(argv)))
        except Refused:
            # This system has the other one.
            continue
    known = [versions for versions in told if versions is not None]
    return tuple(version for versions in known for version in versions) if known else None
