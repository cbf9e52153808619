# SPDX-License-Identifier: Apache-2.0
"""Check that a filesystem is mounted: from the right source, of the right type, with the right options."""

from pydantic import Field

from refloat_checks.api import AbsolutePath, Finding, Limits, failed, passed
from refloat_checks.facts import Facts
from refloat_checks.mount_faults import Fault, Mounted, Part, Wanted, automount, faults
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.proc import Mount, mount_at, read_mounts
from refloat_checks.wakes import MountTable, Wake


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
    options_match: MatchString | None = Field(
        None, description="Match string for all options: `rw` or `ro`, then the others in the alphabet's order."
    )
    automount: bool = Field(
        default=False, description="true: look below the mount point first, so that the automounter mounts it."
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
    wanted = Wanted(_given(limits.source), _given(limits.fstype), _given(limits.options_match), limits.options)
    # The table's own order depends on the kernel and the filesystem; which of the two it is comes first there too.
    options = sorted(mount.options, key=lambda each: (each not in {"ro", "rw"}, each))
    return [_said(fault) for fault in faults(Mounted(mount.source, mount.fstype, ",".join(options)), wanted)]


def _given(pattern: str | None) -> tuple[str, ...]:
    return () if pattern is None else (pattern,)


def _said(fault: Fault) -> str:
    match fault.part:
        case Part.SOURCE:
            return f"is mounted from {fault.seen} (should be {fault.wanted})"
        case Part.TYPE:
            return f"has type {fault.seen} (should be {fault.wanted})"
        case Part.OPTIONS:
            return f"is mounted with options {fault.seen} (should be {fault.wanted})"
        case Part.FLAG if fault.wanted.startswith("!"):
            return f"is mounted with option {fault.wanted[1:]} (should not)"
        case Part.FLAG:
            return f"is mounted without option {fault.wanted}"


def wakes(limits: MountLimits) -> tuple[Wake, ...]:  # noqa: ARG001 - one table for all mounts
    """Tell what wakes it: the mount table."""
    return (MountTable(),)


async def look(facts: Facts, limits: MountLimits, name: str) -> Finding:
    """Look at the mount table."""
    if not limits.automount:
        return judge(await facts.mounts(), limits, name)
    await automount(facts, limits.path)
    source = f"the mount table behind {limits.path}"
    return judge(await facts.read(source, lambda: read_mounts(facts.roots)), limits, name)
