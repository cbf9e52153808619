# SPDX-License-Identifier: Apache-2.0
"""Answers: read what sinfo, scontrol and squeue print into views and jobs. Pure.

A reason is free text and may look like any other field, so each parser anchors on what cannot be forged: fields that
Slurm prints before the reason are read from the left, and who set it and when are the last ``[user@time]``.
All of it was printed with SLURM_TIME_FORMAT=%s: a time that is not a number means that the answer is not understood.
"""

import re
from dataclasses import replace
from typing import Final

from refloat_contract.errors import Transient
from refloat_slurm.complaints import not_understood
from refloat_slurm.gateway import AdminLevel, Job, NodeView, Registration
from refloat_slurm.states import parse_flags

SINFO_FORMAT: Final = "StateComplete:|,User:|,Timestamp:|,Reason:|"
"""``:|`` is a field of any width that ends with ``|``; the reason comes last, because it may hold that too."""

SQUEUE_FORMAT: Final = "%i|%u|%T|%e"
ALL_JOBS_FORMAT: Final = "%i|%u|%T|%e|%N"
ON_NODES: Final = "RUNNING,SUSPENDED,COMPLETING,CONFIGURING,STOPPED"
"""The states of jobs that hold nodes, by names that every release knows: an estimate may miss one of a newer."""

# States in which a job has nothing on a node any more, or not yet. Whatever else squeue prints holds the node.
_NOT_ON_NODE: Final = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PENDING",
        "PREEMPTED",
        "REQUEUE_FED",
        "REQUEUE_HOLD",
        "RESV_DEL_HOLD",
        "REVOKED",
        "SPECIAL_EXIT",
        "TIMEOUT",
    }
)
_NO_TIME: Final = frozenset({"Unknown", "None", "NONE", "N/A"})
_SINFO_HEAD = re.compile(r"(?P<state>[^|\n]+)\|(?P<user>[^|\n]*)\|(?P<time>[0-9]+|Unknown|None)\|")
# A user whom this machine does not know: the number alone, as scontrol has it (22.05's says "nobody").
_UNKNOWN_USER = re.compile(r"^Unk\(([0-9]+)\)$")
_SHOWN_NAME = re.compile(r"NodeName=(?P<name>\S+)\s")
_SHOWN_STATE = re.compile(r"\sState=(?P<state>\S+)\s")
_SHOWN_TIMES = re.compile(r"\sBootTime=(?P<boot>\S+)\s+SlurmdStartTime=(?P<slurmd>\S+)(?:\s|$)")
# The reason, and all that Slurm may print after it (22.05 to 26.05).
_TAIL = re.compile(
    r"\s(?P<key>Reason|Comment|Extra|InstanceId|InstanceType|ReservationName|TLSCertTokenSet|Topology|Parameters)="
)
_PARTITION_NAME = re.compile(r"PartitionName=(?P<name>\S+)\s")
# Not AllocNodes, MaxNodes, MinNodes, TotalNodes.
_PARTITION_NODES = re.compile(r"\sNodes=(?P<nodes>\S*)(?:\s|$)")
_NO_PARTITIONS: Final = "No partitions in the system"
_SIGNATURE = re.compile(r" \[(?P<user>[^\[\]\n]+)@(?P<time>[0-9]+)\](?=\s|$)")
# Where a reason has a newline, `scontrol -o` prints this; the second line comes after the signature.
_NEWLINE_GAP: Final = " " * 8
# A comment may hold a newline and text that looks like a record, so more than the name is asked of one.
_RECORD = re.compile(r"^(?=NodeName=\S+ (?:Arch|CpuBind|CoresPerSocket)=)", re.MULTILINE)


def read_sinfo(text: str, name: str) -> NodeView | None:
    """The view in sinfo's answer for one node; None when the answer is empty.

    sinfo may print a node once for each of its partitions: copies are fine, contradictions are not.

    Raises:
        Transient: the answer is not understood.
    """
    if not text.strip():
        return None
    head = _SINFO_HEAD.match(text)
    if head is None or not text.endswith("|\n"):
        raise not_understood("sinfo", text)
    reasons = text[head.end() : -len("|\n")].split(f"|\n{head[0]}")
    if any(reason != reasons[0] for reason in reasons):
        raise not_understood("sinfo", text)
    return _sinfo_view(head, reasons[0], name)


def _sinfo_view(head: re.Match[str], reason: str, name: str) -> NodeView:
    flags = _flags(head["state"], "sinfo")
    set_at = _seconds(head["time"], "sinfo")
    # sinfo says "none" where there is no reason; a time tells it from a reason that reads so.
    if not set_at and reason in {"none", ""}:
        return NodeView(name, flags)
    return NodeView(name, flags, reason, _UNKNOWN_USER.sub(r"\1", head["user"]) if set_at else "", set_at)


def read_node(text: str, name: str) -> NodeView:
    """The view in `scontrol -o show node NAME`.

    Raises:
        Transient: the answer is not understood, or is about another node.
    """
    views = read_nodes(text)
    if set(views) != {name}:
        raise not_understood(f"scontrol on the node {name}", text)
    return views[name]


def read_nodes(text: str) -> dict[str, NodeView]:
    """The views in `scontrol -o show nodes`.

    Raises:
        Transient: a record is not understood, or there is none.
    """
    # Not splitlines(): a comment may hold a newline, and reasons hold what Unicode takes for one.
    first, *records = _RECORD.split(text)
    if first.strip() or not records:
        raise not_understood("scontrol", text)
    views = [_view(record) for record in records]
    return {view.name: view for view in views}


def _view(record: str) -> NodeView:
    name, state, times = (pattern.search(record) for pattern in (_SHOWN_NAME, _SHOWN_STATE, _SHOWN_TIMES))
    if name is None or state is None or times is None:
        raise not_understood("scontrol", record)
    registration = Registration(_seconds(times["boot"], "scontrol"), _seconds(times["slurmd"], "scontrol"))
    tail = _TAIL.search(record, times.end() - 1)
    reason, user, set_at = "", "", 0
    if tail is not None and tail["key"] == "Reason":
        reason, user, set_at = _signed_reason(record[tail.end() :].removesuffix("\n"))
    return NodeView(name["name"], _flags(state["state"], "scontrol"), reason, user, set_at, registration)


def _signed_reason(tail: str) -> tuple[str, str, int]:
    signatures = list(_SIGNATURE.finditer(tail))
    if not signatures:
        # From slurm.conf (`State=DRAIN Reason="…"`): nobody set it. It ends where the next field begins.
        end = _TAIL.search(tail)
        return (tail[: end.start()] if end else tail).strip(), "", 0
    signature = signatures[-1]
    reason, rest = tail[: signature.start()], tail[signature.end() :]
    if rest.startswith(_NEWLINE_GAP):
        end = _TAIL.search(rest)
        more = rest[: end.start()] if end else rest
        reason += "\n" + "\n".join(more.removeprefix(_NEWLINE_GAP).split(_NEWLINE_GAP))
    return reason, signature["user"], int(signature["time"])


def read_squeue(text: str) -> tuple[Job, ...]:
    """The jobs in squeue's answer that hold the node.

    Raises:
        Transient: a line is not understood.
    """
    jobs = (_job(line) for line in text.split("\n") if line.strip())
    return tuple(job for job in jobs if job.state not in _NOT_ON_NODE)


def read_all_jobs(text: str) -> tuple[Job, ...]:
    """The jobs in squeue's answer about the whole cluster, with their nodes.

    Raises:
        Transient: a line is not understood.
    """
    return tuple(_placed(line) for line in text.split("\n") if line.strip())


def read_partitions(text: str) -> dict[str, str]:
    """The partitions in `scontrol -o show partitions`, each with its nodes as Slurm writes them.

    Raises:
        Transient: a record is not understood.
    """
    if text.startswith(_NO_PARTITIONS):
        return {}
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        name, nodes = _PARTITION_NAME.match(line), _PARTITION_NODES.search(line)
        if name is None or nodes is None:
            raise not_understood("scontrol on partitions", line)
        found[name["name"]] = "" if nodes["nodes"] == "(null)" else nodes["nodes"]
    return found


def read_admin_level(text: str, user: str) -> AdminLevel:
    """The level in sacctmgr's answer for one user; NONE when the answer is empty: accounting does not know them.

    sacctmgr finds users whatever the case of their names (24.11), so the name must be the very same.

    Raises:
        Transient: the answer is not understood, or about somebody else.
    """
    if not text.strip():
        return AdminLevel.NONE
    name, bar, level = text.removesuffix("\n").partition("|")
    if not bar or level not in AdminLevel.__members__.values() or "\n" in text.removesuffix("\n"):
        raise not_understood("sacctmgr", text)
    return AdminLevel(level) if name == user else AdminLevel.NONE


def _placed(line: str) -> Job:
    head, bar, nodes = line.strip().rpartition("|")
    if not bar:
        raise not_understood("squeue", line)
    return replace(_job(head), nodes=nodes)


def _job(line: str) -> Job:
    fields = line.strip().split("|")
    if len(fields) != SQUEUE_FORMAT.count("|") + 1 or not fields[0] or not fields[2]:
        raise not_understood("squeue", line)
    return Job(fields[0], fields[1], fields[2], _seconds(fields[3], "squeue"))


def _flags(text: str, program: str) -> frozenset[str]:
    try:
        return parse_flags(text)
    except ValueError as error:
        raise Transient(f"cannot understand {program}: {error}") from error


def _seconds(text: str, program: str) -> int:
    if text in _NO_TIME:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise not_understood(f"a time from {program}", text)
    return int(text)
