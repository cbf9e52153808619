# SPDX-License-Identifier: Apache-2.0
"""Check that a filesystem answers and has space and inodes left."""

import os

from pydantic import Field

from refloat_checks.amounts import Count, Size, least_count, least_size_kb, size_text
from refloat_checks.api import AbsolutePath, Finding, Limits, failed, passed, unknown
from refloat_checks.facts import Facts
from refloat_checks.probes import Usage, is_broken
from refloat_checks.proc import mount_at


class FilesystemLimits(Limits):
    """How much must be left. `"100G"` is in binary units, a bare number in bytes, `"3%"` of the whole.

    ```toml
    [[check]]
    name = "tmp"
    type = "filesystem"
    path = "/tmp"
    min_free = "5%"
    min_free_inodes = "10k"
    ```
    """

    path: AbsolutePath = Field(description="Mount point, or with `mounted = false` any directory in the filesystem.")
    min_free: Size | None = Field(None, description='Least space that ordinary users may still fill: `"10G"`, `"3%"`.')
    min_free_inodes: Count | None = Field(None, description='Least free inodes: `"10k"` (powers of 1000), `"3%"`.')
    mounted: bool = Field(
        default=True,
        description="Something must be mounted on `path` itself: the space of what lies below it proves nothing.",
    )


def judge(usage: Usage, limits: FilesystemLimits, name: str) -> Finding:
    """Compare what is free with what must be."""
    wrong = [complaint for complaint in (_space(usage, limits), _inodes(usage, limits)) if complaint]
    measures = {"free_kb": usage.free_kb, "size_kb": usage.size_kb, "free_inodes": usage.inodes_free}
    if wrong:
        return failed(name, f"{limits.path} has only {' and '.join(wrong)}", **measures)
    return passed(name, f"{limits.path} has {_share(usage.free_kb, usage.size_kb)} free", **measures)


def _space(usage: Usage, limits: FilesystemLimits) -> str:
    if limits.min_free is None or usage.free_kb >= least_size_kb(limits.min_free, usage.size_kb):
        return ""
    return f"{_share(usage.free_kb, usage.size_kb)} free (limit {limits.min_free})"


def _inodes(usage: Usage, limits: FilesystemLimits) -> str:
    # A filesystem that makes inodes as it needs them (btrfs, many network filesystems) reports none at all.
    if limits.min_free_inodes is None or usage.inodes == 0:
        return ""
    if usage.inodes_free >= least_count(limits.min_free_inodes, usage.inodes):
        return ""
    return f"{usage.inodes_free} of {usage.inodes} inodes free (limit {limits.min_free_inodes})"


def _share(part_kb: int, whole_kb: int) -> str:
    percent = 100 * part_kb / whole_kb if whole_kb else 0
    return f"{size_text(part_kb)} of {size_text(whole_kb)} ({percent:.3g}%)"


def judge_error(error: OSError, limits: FilesystemLimits, name: str) -> Finding:
    """Tell a filesystem that the kernel calls broken from one that we could not look at."""
    why = os.strerror(error.errno) if error.errno else str(error)
    if is_broken(error):
        return failed(name, f"{limits.path} is broken: {why}")
    return unknown(name, f"{limits.path} cannot be measured: {why}")


async def look(facts: Facts, limits: FilesystemLimits, name: str) -> Finding:
    """Ask the filesystem, through a helper that may hang."""
    if limits.mounted and mount_at(await facts.mounts(), limits.path) is None:
        return unknown(name, f"nothing is mounted on {limits.path}, so there is nothing to measure")
    try:
        usage = await facts.usage(limits.path)
    except OSError as error:
        return judge_error(error, limits, name)
    return judge(usage, limits, name)
