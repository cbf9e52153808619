# SPDX-License-Identifier: Apache-2.0
"""Find NHC's checks by their names."""

from __future__ import annotations

from functools import cache

from refloat_checks.nhc.native import NativeCheck

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

# Where each lives: a module is loaded when one of its checks is asked for, so that the nhc command starts quickly.
_CHECKS: Final[Mapping[str, str]] = {
    "cmd": "cmd_dmesg cmd_output cmd_status",
    "daemons": "ps_blacklist ps_daemon",
    "devices": "hw_cpuinfo hw_eth hw_gm hw_ib",
    "dmi": "dmi_data_match dmi_raw_data_match",
    "file_contents": "file_contents",
    "file_stat": "file_stat",
    "file_tests": "file_test",
    "gpus": "nv_healthmon nvsmi_healthmon",
    "load": "ps_kswapd ps_loadavg",
    "machine_checks": "hw_mcelog",
    "memory": "hw_mem hw_mem_free hw_physmem hw_physmem_free hw_swap hw_swap_free",
    "moab": "moab_rm moab_sched moab_torque",
    "mounting": "fs_mount fs_mount_ro fs_mount_rw",
    "net_ping": "net_ping",
    "net_sockets": "net_socket",
    "people": "ps_unauth_users ps_userproc_lineage",
    "resources": "ps_cpu ps_mem ps_physmem ps_time",
    "services": "ps_service",
    "space": "fs_free fs_ifree fs_inodes fs_iused fs_size fs_used",
}
_HOMES: Final = {f"check_{name}": module for module, listed in _CHECKS.items() for name in listed.split()}


@cache
def find(name: str) -> NativeCheck | None:
    """Find the native check of this name; None if NHC ships none of it."""
    if name not in _HOMES:
        return None
    checks: tuple[NativeCheck, ...] = __import__(
        f"refloat_checks.nhc.checks.{_HOMES[name]}", fromlist=["CHECKS"]
    ).CHECKS
    return next(check for check in checks if check.name == name)


def is_native(name: str) -> bool:
    """Tell whether there is a native check of this name, without loading it."""
    return name in _HOMES


def names() -> tuple[str, ...]:
    """Name all native checks, in alphabetical order."""
    return tuple(sorted(_HOMES))
