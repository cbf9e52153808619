# SPDX-License-Identifier: Apache-2.0
"""Check that a filesystem answers, is large enough, and has space and inodes left."""

import os

from pydantic import Field

from refloat_checks.amounts import Count, Kilobytes, Number, Size, count_bound, size_bound, size_text
from refloat_checks.api import AbsolutePath, Finding, Limits, failed, passed, unknown
from refloat_checks.bounds import Bound, Breach, breach
from refloat_checks.facts import Facts
from refloat_checks.filling import Filling, inodes, space
from refloat_checks.probed import Usage, is_broken
from refloat_checks.proc import mount_at
from refloat_checks.wakes import MountTable, Wake


class FilesystemLimits(Limits):
    """How large it must be, and how much must be left. `"100G"` is in binary units, a bare number in bytes.

    Percentages are of what ordinary users can have, as in df's `Use%`.

    ```toml
    [[check]]
    name = "tmp"
    type = "filesystem"
    path = "/tmp"
    min_size = "100G"
    min_free = "5%"
    min_free_inodes = "10k"
    ```
    """

    path: AbsolutePath = Field(description="Mount point, or with `mounted = false` any directory in the filesystem.")
    min_size: Kilobytes | None = Field(None, description='Least size: `"100G"`.')
    max_size: Kilobytes | None = Field(None, description="Largest size.")
    min_free: Size | None = Field(None, description='Least space that ordinary users may still fill: `"10G"`, `"3%"`.')
    used_below: Size | None = Field(
        None, description='So much must not be used: `"90%"` has failed at 90 % of df, which rounds up.'
    )
    min_inodes: Number | None = Field(None, description='Least number of inodes: `"10M"` (powers of 1000).')
    max_inodes: Number | None = Field(None, description="Largest number of inodes.")
    min_free_inodes: Count | None = Field(None, description='Least free inodes: `"10k"` (powers of 1000), `"3%"`.')
    used_inodes_below: Count | None = Field(None, description='So many inodes must not be used: `"90%"`.')
    mounted: bool = Field(
        default=True,
        description="Something must be mounted on `path` itself: the space of what lies below it proves nothing.",
    )


def judge(usage: Usage, limits: FilesystemLimits, name: str) -> Finding:
    """Compare the filesystem with what is asked for."""
    seen = space(usage)
    wrong = [*_of_space(seen, limits), *_of_inodes(inodes(usage), limits)]
    measures = {"free_kb": usage.free_kb, "size_kb": usage.size_kb, "free_inodes": usage.inodes_free}
    if wrong:
        return failed(name, f"{limits.path} has {' and '.join(wrong)}", **measures)
    return passed(name, f"{limits.path} has {_share(seen.free, seen)} free", **measures)


def _of_space(seen: Filling, limits: FilesystemLimits) -> list[str]:
    side = breach(seen.total, _value(size_bound(limits.min_size)), _value(size_bound(limits.max_size)))
    wrong = _of_total(side, size_text(seen.total), limits.min_size, limits.max_size)
    least, full = size_bound(limits.min_free), size_bound(limits.used_below)
    if least is not None and seen.is_short(least):
        wrong.append(f"only {_share(seen.free, seen)} free (limit {limits.min_free})")
    if full is not None and seen.is_full(full):
        wrong.append(f"{_share(seen.used, seen)} used (must be below {limits.used_below})")
    return wrong


def _of_inodes(seen: Filling, limits: FilesystemLimits) -> list[str]:
    # A filesystem that makes inodes as it needs them (btrfs, many network filesystems) reports none at all.
    if seen.total == 0:
        return []
    side = breach(seen.total, _value(count_bound(limits.min_inodes)), _value(count_bound(limits.max_inodes)))
    wrong = _of_total(side, f"{seen.total} inodes", limits.min_inodes, limits.max_inodes)
    least, full = count_bound(limits.min_free_inodes), count_bound(limits.used_inodes_below)
    if least is not None and seen.is_short(least):
        wrong.append(f"only {seen.free} of {seen.total} inodes free (limit {limits.min_free_inodes})")
    if full is not None and seen.is_full(full):
        wrong.append(f"{seen.used} of {seen.total} inodes used (must be below {limits.used_inodes_below})")
    return wrong


def _value(bound: Bound | None) -> float | None:
    return None if bound is None else bound.value


def _of_total(side: Breach | None, total: str, least: str | None, most: str | None) -> list[str]:
    if side is None:
        return []
    return [f"only {total} (limit {least})" if side is Breach.TOO_LITTLE else f"{total} (limit {most})"]


def _share(part_kb: int, whole: Filling) -> str:
    percent = 100 * part_kb / whole.visible if whole.visible else 0
    return f"{size_text(part_kb)} of {size_text(whole.visible)} ({percent:.3g}%)"


def judge_error(error: OSError, limits: FilesystemLimits, name: str) -> Finding:
    """Tell a filesystem that the kernel calls broken from one that we could not look at."""
    why = os.strerror(error.errno) if error.errno else str(error)
    if is_broken(error):
        return failed(name, f"{limits.path} is broken: {why}")
    return unknown(name, f"{limits.path} cannot be measured: {why}")


def wakes(limits: FilesystemLimits) -> tuple[Wake, ...]:  # noqa: ARG001 - the same for all limits
    """Tell what wakes it: the mount table."""
    return (MountTable(),)


async def look(facts: Facts, limits: FilesystemLimits, name: str) -> Finding:
    """Ask the filesystem, through a helper that may hang."""
    if limits.mounted and mount_at(await facts.mounts(), limits.path) is None:
        return unknown(name, f"nothing is mounted on {limits.path}, so there is nothing to measure")
    try:
        usage = await facts.usage(limits.path)
    except OSError as error:
        return judge_error(error, limits, name)
    return judge(usage, limits, name)
