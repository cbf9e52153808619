# SPDX-License-Identifier: Apache-2.0
"""NHC's variables: those that checks and settings look at, and what they are before anything is configured."""

from __future__ import annotations

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Final

PATH: Final = "/sbin:/usr/sbin:/bin:/usr/bin"
_NAMES: Final = """
CONFDIR CONFFILE DEBUG DF_CMD DF_FLAGS DFI_CMD DFI_FLAGS HELPERDIR HOSTNAME HOSTNAME_S IGNORE_EMPTY_NOTE INCDIR
JOBFILE_PATH LOGFILE LOGIN_DEFS_SRC MARK_OFFLINE MAX_SYS_UID MCELOG MCELOG_ARGS MCELOG_MAX_CORRECTED_RATE
MCELOG_MAX_UNCORRECTED_RATE MDIAG_CMD MOUNT_CMD NAME NETSTAT_ARGS NETSTAT_CMD NHC_AUTH_USERS NHC_CHECK_ALL NHC_RM
NVIDIA_HEALTHMON NVIDIA_HEALTHMON_ARGS NVIDIA_SMI_HEALTHMON NVIDIA_SMI_HEALTHMON_ARGS OFFLINE_NODE ONLINE_NODE
PASSWD_DATA_SRC PATH RM_DAEMON_MATCH SILENT SLURM_SC_OFFLINE_ARGS SLURM_SC_ONLINE_ARGS SLURM_SCONTROL SLURM_SINFO
SQUEUE_CMD SQUEUE_FMT_ARGS SQUEUE_NODE SS_ARGS SS_CMD STAT_CMD STAT_FMT_ARGS TIMEOUT TS VERBOSE
"""
# What natively evaluated lines and checks take from the scripts and lines that bash runs.
SETTINGS: Final = tuple(_NAMES.split())


def of_host(host: str, name: str = "nhc") -> dict[str, str]:
    """What NHC sets by itself before it reads anything."""
    return {"HOSTNAME": host, "HOSTNAME_S": host.partition(".")[0], "NAME": name, "PATH": PATH}
