# SPDX-License-Identifier: Apache-2.0
"""Where refloat answers otherwise than NHC, and why; `nhc_compat = "strict"` gives NHC's own answer.

The linter and the documentation are made from this table, and the checks name its rows where they deviate.
"""

from __future__ import annotations

from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Final


@record
class Deviation:
    """One such place: for these checks NHC does this, refloat does that, for this reason."""

    name: str
    checks: tuple[str, ...]
    nhc: str
    refloat: str
    why: str


_SPACE: Final = ("check_fs_size", "check_fs_free", "check_fs_used")
_INODES: Final = ("check_fs_inodes", "check_fs_ifree", "check_fs_iused")

NOT_MOUNTED: Final = Deviation(
    "not_mounted",
    (*_SPACE, *_INODES),
    "passes when df lists no such mount point",
    "UNKNOWN: nothing is mounted there",
    "a mistyped mount point, or a filesystem that is gone, looks healthy",
)
NO_ANSWER: Final = Deviation(
    "no_answer",
    (*_SPACE, *_INODES),
    "passes when the kernel gives df an error; when df hangs, blames whatever check runs, and drains",
    "FAILED where the kernel calls the filesystem broken; UNKNOWN, for this check alone, where it gives no answer",
    "a stale or broken filesystem looks healthy, and a hung one takes all other checks with it",
)
NO_SIZE: Final = Deviation(
    "no_size",
    _SPACE,
    "passes on a filesystem of size zero, with a line for syslog",
    "UNKNOWN: there is nothing to measure",
    "the check can never fail there",
)
BAD_NUMBER: Final = Deviation(
    "bad_number",
    (
        *_SPACE,
        *_INODES,
        "check_hw_cpuinfo",
        "check_hw_physmem",
        "check_hw_swap",
        "check_hw_mem",
        "check_hw_physmem_free",
        "check_hw_swap_free",
        "check_hw_mem_free",
        "check_ps_cpu",
        "check_ps_mem",
        "check_ps_physmem",
        "check_ps_time",
        "check_ps_loadavg",
        "check_ps_kswapd",
        "check_file_stat",
    ),
    "compares nothing, and passes, when a limit is no number to it (1GiB, 99.9%, 08)",
    "UNKNOWN: a configuration error, which names the number",
    "the check can never fail",
)

EMPTY_FILE_NAME: Final = Deviation(
    "empty_file_name",
    ("check_file_test",),
    "finds every test of an empty name true",
    "UNKNOWN: the name is empty",
    "a variable that is not set turns the check off",
)
UNREADABLE: Final = Deviation(
    "unreadable",
    ("check_file_contents",),
    "passes when the file cannot be read and all patterns are negated",
    "UNKNOWN: the file cannot be read",
    "what nobody read was not found either",
)
LAST_LINE: Final = Deviation(
    "last_line",
    ("check_file_contents",),
    "does not see a last line that has no line's end",
    "sees it",
    "what must not stand there goes unseen, and what must is missed",
)
BAD_PATTERN: Final = Deviation(
    "bad_pattern",
    (
        "check_file_contents",
        "check_fs_mount",
        "check_fs_mount_rw",
        "check_fs_mount_ro",
        "check_ps_service",
        "check_ps_cpu",
        "check_ps_mem",
        "check_ps_physmem",
        "check_ps_time",
        "check_ps_blacklist",
        "check_net_socket",
        "check_cmd_output",
        "check_cmd_dmesg",
        "check_dmi_data_match",
        "check_dmi_raw_data_match",
    ),
    "takes a match string that cannot be read for one that matches nothing, and with ! everything",
    "UNKNOWN: a configuration error, which names the column",
    "the check always fails, or can never fail",
)

_PEOPLE: Final = ("check_ps_unauth_users", "check_ps_userproc_lineage")
TITLE_WITH_COLON: Final = Deviation(
    "title_with_colon",
    ("check_ps_service",),
    "does not see a daemon whose title is its name with a colon (sshd: /usr/sbin/sshd -D [listener])",
    "sees it, but where the service must not run; a session (sshd: alice [priv]) is not the service",
    "the usual check of sshd drains every node with a current OpenSSH",
)
SELF: Final = Deviation(
    "self",
    ("check_ps_daemon", "check_ps_blacklist"),
    "finds itself when the name stands in its own command line",
    "never looks at itself",
    "nhc -e can never find a daemon missing",
)
KSWAPD_TITLE: Final = Deviation(
    "kswapd_title",
    ("check_ps_kswapd",),
    "takes any process with kswapd in its title for a reclaim thread",
    "takes kernel threads only",
    "a user's process title drains the node",
)
OCTAL_SECONDS: Final = Deviation(
    "octal_seconds",
    ("check_ps_time",),
    "gives up, and fails without a message, at a process whose CPU time ends in :08 or :09; names the time used for"
    " the limit",
    "reads the seconds as what they are, and names the limit",
    "a healthy node is drained for two seconds of each minute of somebody's CPU time",
)
PARTIAL_NAMES: Final = Deviation(
    "partial_names",
    _PEOPLE,
    "spares whoever's name, number or command is a part of a word that is to be ignored, and loses users whose name is"
    " a part of another's who has a job",
    "compares whole words",
    "bob is drained for, and may be killed, because bobby has a job; uid 100 is spared because 1000 is",
)
NO_JOB_LIST: Final = Deviation(
    "no_job_list",
    ("check_ps_unauth_users",),
    "takes all users for strangers when squeue fails or there is no resource manager",
    "UNKNOWN: nobody is known to be a stranger",
    "a slow controller drains nodes, and with kill ends the jobs of all users",
)

STATUS_TIMEOUT: Final = Deviation(
    "status_timeout",
    ("check_cmd_status",),
    "says 142 returned by the command when its time is over, and leaves a watchdog behind that may signal another"
    " process later",
    "says TIMEOUT, as check_cmd_output does, and ends the command with all its children",
    "nobody knows what 142 is",
)
NO_MCELOG: Final = Deviation(
    "no_mcelog",
    ("check_hw_mcelog",),
    "passes when mcelog is not there, fails, or has no daemon to ask",
    "UNKNOWN: there are no counts",
    "memory errors that nobody counts look like none",
)
NO_DMI: Final = Deviation(
    "no_dmi",
    ("check_dmi_data_match", "check_dmi_raw_data_match"),
    "finds no match when dmidecode is not there or fails, so that a negated match passes and any other drains",
    "UNKNOWN: there is no data",
    "it is not the hardware that is wrong",
)
SIGNAL_NUMBER: Final = Deviation(
    "signal_number",
    ("check_nv_healthmon",),
    "names the signal after the one that ended the tool",
    "names the one that did",
    "the message sends the reader the wrong way",
)
MOAB_EXPRESSIONS: Final = Deviation(
    "moab_expressions",
    ("check_moab_sched", "check_moab_rm", "check_moab_torque"),
    "never matches what -m gives, and never sees the state of a resource manager",
    "does both",
    "the check can never fail for what it is for, or always fails",
)
NO_SOCKETS: Final = Deviation(
    "no_sockets",
    ("check_net_socket",),
    "finds no socket at all where netstat and ss refuse its options, as on Debian 12: always fails, or negated always"
    " passes",
    "reads the kernel's own tables, in strict mode too",
    "the check says nothing about the node",
)

ALL: Final = (
    NOT_MOUNTED,
    NO_ANSWER,
    NO_SIZE,
    BAD_NUMBER,
    EMPTY_FILE_NAME,
    UNREADABLE,
    LAST_LINE,
    BAD_PATTERN,
    TITLE_WITH_COLON,
    SELF,
    KSWAPD_TITLE,
    OCTAL_SECONDS,
    PARTIAL_NAMES,
    NO_JOB_LIST,
    STATUS_TIMEOUT,
    NO_MCELOG,
    NO_DMI,
    SIGNAL_NUMBER,
    MOAB_EXPRESSIONS,
    NO_SOCKETS,
)
