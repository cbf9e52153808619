# SPDX-License-Identifier: Apache-2.0
"""The Slurm configuration of the lab, and reading what Slurm shows."""

import re
from datetime import UTC, datetime
from pathlib import Path

from reflab.network import CONTROLLER_ADDRESS
from reflab.places import CONTROLLER

SETTINGS = """\
ClusterName=lab
SlurmctldHost={controller}({address})
AuthType=auth/munge
SlurmUser=slurm
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=1
MessageTimeout=10
SlurmdTimeout=30
SlurmctldTimeout=30
InactiveLimit=0
KillWait=5
StateSaveLocation=/var/lib/slurm/ctl
SlurmdSpoolDir=/var/lib/slurm/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/lab/slurmctld.log
SlurmdLogFile=/lab/slurmd.log
SlurmctldDebug=verbose
SlurmdDebug=verbose
RebootProgram="/usr/bin/systemctl reboot"
"""
NODES = """\
NodeName=n[1-{nodes}] CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
# From this release on slurmd can be told to leave cgroups alone.
CGROUPS_OPTIONAL_SINCE = (23, 11)
# Until this release the default switch plugin has to be named.
SWITCH_NAMED_BEFORE = (23, 11)


def configure(folder: Path, version: tuple[int, int], nodes: int, extra: str) -> None:
    """Write slurm.conf and cgroup.conf for `nodes` nodes; a setting in `extra` takes the place of ours."""
    settings = SETTINGS.format(controller=CONTROLLER, address=CONTROLLER_ADDRESS).splitlines()
    if version < SWITCH_NAMED_BEFORE:
        settings.append("SwitchType=switch/none")
    # Slurm takes a setting that is there twice for an error.
    taken = {_key(line) for line in extra.splitlines()}
    ours = [line for line in settings if _key(line) not in taken]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "slurm.conf").write_text("\n".join([*ours, extra, NODES.format(nodes=nodes)]))
    (folder / "cgroup.conf").write_text(f"CgroupPlugin={_cgroup_plugin(version)}\n")


def _key(line: str) -> str:
    return line.partition("=")[0].strip().lower()


def _cgroup_plugin(version: tuple[int, int]) -> str:
    # 22.05 cannot do without and dies on a host that has v1 and v2 mounted ("Hybrid mode is not
    # supported") unless one is named; nothing uses it with proctrack/linuxproc.
    return "disabled" if version >= CGROUPS_OPTIONAL_SINCE else "cgroup/v1"


def record(shown: str) -> dict[str, str]:
    """Parse one record of `scontrol show node`; Reason keeps its spaces and its [user@time]."""
    reason = re.search(r"^\s*Reason=(.*)$", shown, re.MULTILINE)
    words = shown.replace(reason.group(0), "") if reason else shown
    fields = dict(word.split("=", 1) for word in words.split() if "=" in word)
    return fields | ({"Reason": reason.group(1).strip()} if reason else {})


def flags(state: str) -> frozenset[str]:
    """Split a state such as IDLE+DRAIN into its words; the asterisk of a silent node becomes its word."""
    return frozenset(state.replace("*", "+NOT_RESPONDING").split("+"))


def seconds(shown: str) -> float:
    """Turn a time that Slurm shows into seconds since the epoch; a time that it does not know is 0."""
    # The containers have no time zone of their own: UTC.
    return 0.0 if shown in {"None", "Unknown"} else datetime.fromisoformat(shown).replace(tzinfo=UTC).timestamp()
