# SPDX-License-Identifier: Apache-2.0
"""Check that a filesystem is mounted: from the right source, of the right type, with the right options."""

from pydantic import Field

from refloat_checks.api import AbsolutePath, Finding, Limits, failed, passed
from refloat_checks.facts import Facts
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.proc import Mount, mount_at


class MountLimits(Limits):
    """What must be mounted where.

    ```toml
    [[check]]
    name = "scratch"
    type = "mount"
    path = "/scratch"
    fstype = "lustre"
    source = "*@o2ib:/scratch"
    options = ["rw", "flock", "!noexec"]
    ```
    """

    path: AbsolutePath = Field(description="Mount point, as the mount table spells it.")
    source: MatchString | None = Field(None, description="Match string for the mounted source (device, export).")
    fstype: MatchString | None = Field(None, description="Match string for the filesystem type, as in `nfs*`.")
    options: tuple[str, ...] = Field(
        (), description="Options that must be set, as in `rw` or `nosuid`; `!option`: must not be set."
    )
    mounted: bool = Field(default=True, description="false: nothing may be mounted there.")


def judge(mounts: tuple[Mount, ...], limits: MountLimits, name: str) -> Finding:
    """Compare the mount table with what is asked for."""
    mount = mount_at(mounts, limits.path)
    if mount is None:
        message = f"nothing is mounted on {limits.path}"
        return failed(name, message) if limits.mounted else passed(name, message)
    if not limits.mounted:
        return failed(name, f"{mount.source} is mounted on {limits.path}, where nothing should be")
    wrong = _complaints(mount, limits)
    if wrong:
        return failed(name, f"{limits.path} {', and '.join(wrong)}")
    return passed(name, f"{limits.path} is mounted from {mount.source} ({mount.fstype})")


def _complaints(mount: Mount, limits: MountLimits) -> list[str]:
    wrong = []
    if limits.source is not None and not matches(limits.source, mount.source):
        wrong.append(f"is mounted from {mount.source} (should be {limits.source})")
    if limits.fstype is not None and not matches(limits.fstype, mount.fstype):
        wrong.append(f"has type {mount.fstype} (should be {limits.fstype})")
    for option in limits.options:
        unwanted = option.startswith("!")
        if (option.removeprefix("!") in mount.options) is unwanted:
            wrong.append(
                f"is mounted with option {option[1:]} (should not)"
                if unwanted
                else f"is mounted without option {option}"
            )
    return wrong


async def look(facts: Facts, limits: MountLimits, name: str) -> Finding:
    """Look at the mount table."""
    return judge(await facts.mounts(), limits, name)
