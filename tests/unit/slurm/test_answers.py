# SPDX-License-Identifier: Apache-2.0

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat_contract.errors import Transient
from refloat_slurm.answers import (
    read_admin_level,
    read_all_jobs,
    read_node,
    read_nodes,
    read_partitions,
    read_sinfo,
    read_squeue,
)
from refloat_slurm.gateway import AdminLevel, Job, NodeView, Registration

HEAD = (
    "NodeName=n1 Arch=x86_64 CoresPerSocket=1  CPUAlloc=0 CPUEfctv=2 CPUTot=2 CPULoad=0.40 AvailableFeatures=(null)"
    " ActiveFeatures=(null) Gres=(null) NodeAddr=n1 NodeHostName=n1 Version=24.11.5 OS=Linux 6.1 #1 SMP A=b @0 "
    " RealMemory=2000 AllocMem=0 FreeMem=22539 Sockets=2 Boards=1 State={state} ThreadsPerCore=1 TmpDisk=0 Weight=1"
    " Owner=N/A MCS_label=N/A {next}Partitions=main  BootTime={boot} SlurmdStartTime={slurmd}"
    " LastBusyTime=1795215433 ResumeAfterTime=None CfgTRES=cpu=2,mem=2000M,billing=2 AllocTRES= CurrentWatts=0"
    " AveWatts=0 "
)


def line(tail: str = "", state: str = "IDLE+DRAIN", boot: str = "1795215421", following: str = "") -> str:
    return HEAD.format(state=state, boot=boot, slurmd="1795215433", next=following) + tail + "\n"


REGISTRATION = Registration(1795215421, 1795215433)


@pytest.mark.parametrize(
    ("tail", "reason", "user", "at"),
    [
        ("", "", "", 0),
        (" Comment=Reason=fake [root@1]", "", "", 0),
        (" Extra={'Reason': 1} ReservationName=m", "", "", 0),
        (" Reason=reboot [root@1795217017]", "reboot", "root", 1795217017),
        (" Reason=reboot : Not responding [slurm@1795217017]", "reboot : Not responding", "slurm", 1795217017),
        (' Reason=r (k=1) [root@17] Comment=c 1=2 Extra={"a":1} ReservationName=m', "r (k=1)", "root", 17),
        (" Reason=two  spaces  [root@17]", "two  spaces ", "root", 17),
        (" Reason= x [root@17]", " x", "root", 17),
        (" Reason=x [root@16] Comment=fake State=IDLE [root@17]", "x [root@16] Comment=fake State=IDLE", "root", 17),
        (" Reason=State=IDLE BootTime=1 SlurmdStartTime=2 [a@17]", "State=IDLE BootTime=1 SlurmdStartTime=2", "a", 17),
        (" Reason=NodeName=n9 Reason=y [root@17]", "NodeName=n9 Reason=y", "root", 17),
        (" Reason=x [alice@example.org@17]", "x", "alice@example.org", 17),
        (r" Reason=x [EX\some body@17]", "x", r"EX\some body", 17),
        (" Reason=x [4711@17]", "x", "4711", 17),
        (" Reason=x[root@16] [root@17]", "x[root@16]", "root", 17),
        (" Reason=line1 [root@17]        line2        line3", "line1\nline2\nline3", "root", 17),
        (" Reason=line1 [root@17]        line2 Comment=c", "line1\nline2", "root", 17),
        (" Reason=a\u2028b\x0bc\x85d [root@17]", "a\u2028b\x0bc\x85d", "root", 17),
        (" Reason=cfg drain", "cfg drain", "", 0),
        (" Reason=cfg drain Comment=c", "cfg drain", "", 0),
        (" Reason=x [root@17] InstanceId=i-1 InstanceType=t", "x", "root", 17),
        (" Reason=x [root@17] Topology=default:s1 Parameters=p", "x", "root", 17),
    ],
)
def test_a_reason_is_read_whatever_it_looks_like(tail: str, reason: str, user: str, at: int) -> None:
    view = read_node(line(tail), "n1")

    assert view == NodeView("n1", frozenset({"IDLE", "DRAIN"}), reason, user, at, REGISTRATION)


def test_a_node_that_has_not_registered_has_zeros() -> None:
    view = read_node(line(state="IDLE+NOT_RESPONDING", boot="None"), "n1")

    assert view.registration == Registration(0, 1795215433)


def test_a_pending_reboot_is_read() -> None:
    view = read_node(line(" Reason=R [root@17]", "MIXED+DRAIN+REBOOT_REQUESTED", following="NextState=RESUME "), "n1")

    assert view.flags == {"MIXED", "DRAIN", "REBOOT_REQUESTED"}
    assert view.reason == "R"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "No nodes in the system\n",
        line(state=""),
        line(state="BOGUS"),
        line(boot="2026-11-20T22:57:01"),
        line().replace("BootTime", "Boottime"),
        line().replace("NodeName=n1", "NodeName=n2"),
        "junk before\n" + line(),
        line() + line().replace("NodeName=n1", "NodeName=n2"),
    ],
)
def test_an_answer_about_a_node_that_is_not_understood_is_transient(text: str) -> None:
    with pytest.raises(Transient, match="understand"):
        read_node(text, "n1")


def test_a_table_is_read_and_newlines_in_comments_do_not_split_it() -> None:
    first = line(" Reason=r [root@17] Comment=one\nNodeName=n7 State=IDLE\n  two NodeName=n8 three")
    second = line(state="DOWN*").replace("NodeName=n1", "NodeName=n2")

    views = read_nodes(first + second)

    assert list(views) == ["n1", "n2"]
    assert views["n1"].reason == "r"
    assert views["n2"].flags == {"DOWN", "NOT_RESPONDING"}


def test_one_bad_record_spoils_the_table() -> None:
    with pytest.raises(Transient, match="understand"):
        read_nodes(line() + "NodeName=n2 Arch=x86_64 State=IDLE\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("idle|Unknown|Unknown|none|\n", NodeView("n1", frozenset({"IDLE"}))),
        ("mixed+drain|root|17|reboot|\n", NodeView("n1", frozenset({"MIXED", "DRAIN"}), "reboot", "root", 17)),
        ("idle+drain|root|17|a|b|c|\n", NodeView("n1", frozenset({"IDLE", "DRAIN"}), "a|b|c", "root", 17)),
        ("idle+drain|root|17|none|\n", NodeView("n1", frozenset({"IDLE", "DRAIN"}), "none", "root", 17)),
        ("idle+drain|Unk(4711)|17|x|\n", NodeView("n1", frozenset({"IDLE", "DRAIN"}), "x", "4711", 17)),
        ("idle+drain|root|17|x |\n", NodeView("n1", frozenset({"IDLE", "DRAIN"}), "x ", "root", 17)),
        ("idle+drain|root|17|one\ntwo|\n", NodeView("n1", frozenset({"IDLE", "DRAIN"}), "one\ntwo", "root", 17)),
        ("idle+drain|root|17|x|\n" * 3, NodeView("n1", frozenset({"IDLE", "DRAIN"}), "x", "root", 17)),
        ("unknown+drain|Unknown|Unknown|cfg|\n", NodeView("n1", frozenset({"UNKNOWN", "DRAIN"}), "cfg")),
        ("down+not_responding|slurm|17|x : Not responding|\n",
         NodeView("n1", frozenset({"DOWN", "NOT_RESPONDING"}), "x : Not responding", "slurm", 17)),
    ],
)  # fmt: skip
def test_sinfo_is_read(text: str, expected: NodeView) -> None:
    assert read_sinfo(text, "n1") == expected


@pytest.mark.parametrize("text", ["", "\n", "  \n"])
def test_no_answer_from_sinfo_is_no_view(text: str) -> None:
    assert read_sinfo(text, "n1") is None


@pytest.mark.parametrize(
    "text",
    [
        "idle\n",
        "idle|root|17|x\n",
        "n/a|root|17|x|\n",
        "drained|root|17|x|\n",
        "idle|root|2026-11-20T22:57:01|x|\n",
        "|root|17|x|\n",
        "idle|root|17|x|",
        "idle+drain|root|17|x|\nidle+drain|root|17|y|\n",
    ],
)
def test_sinfo_that_is_not_understood_is_transient(text: str) -> None:
    with pytest.raises(Transient, match="understand"):
        read_sinfo(text, "n1")


def test_squeue_tells_all_jobs_that_hold_the_node() -> None:
    text = (
        "1|alice|RUNNING|1795217017\n2|bob|SUSPENDED|NONE\n3_4|eve|COMPLETING|N/A\n5|alice|COMPLETED|17\n"
        "6|alice|PENDING|N/A\n7|alice|CONFIGURING|17\n8|alice|STOPPED|17\n9|alice|CANCELLED|17\n10|a|A_NEW_STATE|17\n"
    )

    assert read_squeue(text) == (
        Job("1", "alice", "RUNNING", 1795217017),
        Job("2", "bob", "SUSPENDED", 0),
        Job("3_4", "eve", "COMPLETING", 0),
        Job("7", "alice", "CONFIGURING", 17),
        Job("8", "alice", "STOPPED", 17),
        Job("10", "a", "A_NEW_STATE", 17),
    )


def test_no_jobs_are_no_jobs() -> None:
    assert read_squeue("") == ()
    assert read_all_jobs("") == ()


@pytest.mark.parametrize("text", ["1|alice|RUNNING|17\n", "nonsense\n", "1|alice|RUNNING|tomorrow|n1\n"])
def test_a_list_of_all_jobs_that_is_not_understood_is_transient(text: str) -> None:
    with pytest.raises(Transient, match="understand"):
        read_all_jobs(text)


@pytest.mark.parametrize("text", ["1|alice|RUNNING\n", "nonsense\n", "1|alice||17\n", "1|alice|RUNNING|tomorrow\n"])
def test_squeue_that_is_not_understood_is_transient(text: str) -> None:
    with pytest.raises(Transient, match="understand"):
        read_squeue(text)


# Any text that one argument can hold; a newline is shown as a gap that other text may hold as well.
ONE_LINE = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), min_size=1)
FORGERIES = st.lists(
    st.sampled_from(
        [" Comment=", " [root@17]", " State=IDLE", "|", " Reason=", "NodeName=n2 ", "|\tidle|root|1|", " ", "x", "]"]
    ),
    min_size=1,
).map("".join)


@given(st.one_of(ONE_LINE, FORGERIES))
def test_any_reason_survives_the_trip_through_scontrol(reason: str) -> None:
    assert read_node(line(f" Reason={reason} [root@99]"), "n1").reason == reason


@given(st.one_of(ONE_LINE, FORGERIES), st.integers(1, 3))
def test_any_reason_survives_the_trip_through_sinfo(reason: str, partitions: int) -> None:
    view = read_sinfo(f"idle+drain|root|99|{reason}|\n" * partitions, "n1")

    assert view == NodeView("n1", frozenset({"IDLE", "DRAIN"}), reason, "root", 99)


@given(st.text())
def test_any_text_is_an_answer_or_transient(text: str) -> None:
    for read in (lambda: read_sinfo(text, "n1"), lambda: read_node(text, "n1"), lambda: read_squeue(text)):
        try:
            read()
        except Transient:
            continue


def test_partitions_are_told_with_their_nodes() -> None:
    text = (
        "PartitionName=main AllowGroups=ALL AllocNodes=ALL Default=YES MaxNodes=UNLIMITED MinNodes=0 Nodes=n[1-3],x1"
        " PriorityJobFactor=1 TotalCPUs=8 TotalNodes=4 TRES=cpu=8,mem=8000M,node=4\n"
        "PartitionName=empty AllocNodes=ALL MaxNodes=1 Nodes=(null) TotalNodes=0\n"
        "PartitionName=bare AllocNodes=ALL MaxNodes=1 Nodes= TotalNodes=0\n"
    )

    assert read_partitions(text) == {"main": "n[1-3],x1", "empty": "", "bare": ""}
    assert read_partitions("No partitions in the system\n") == {}


@pytest.mark.parametrize("text", ["slurm_load_partitions error\n", "PartitionName=main AllocNodes=ALL TotalNodes=3\n"])
def test_an_answer_about_partitions_that_is_not_understood_is_no_answer(text: str) -> None:
    with pytest.raises(Transient):
        read_partitions(text)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        # As sacctmgr -rnP of 24.11 prints it; it finds Alice where alice is asked for.
        ("alice|Operator\n", AdminLevel.OPERATOR),
        ("alice|Administrator\n", AdminLevel.ADMINISTRATOR),
        ("alice|None\n", AdminLevel.NONE),
        ("", AdminLevel.NONE),
        ("Alice|Administrator\n", AdminLevel.NONE),
        ("bob|Administrator\n", AdminLevel.NONE),
    ],
)
def test_a_users_level_is_that_of_this_very_name(text: str, level: AdminLevel) -> None:
    assert read_admin_level(text, "alice") is level


@pytest.mark.parametrize(
    "text",
    [
        "alice\n",
        "alice|\n",
        "alice|operator\n",
        "alice|Operator|\n",
        "bob|None\nalice|Operator\n",
        "|Operator\nx",
        "a||",
    ],
)
def test_an_answer_about_a_user_that_is_not_understood_is_no_level(text: str) -> None:
    with pytest.raises(Transient, match="cannot understand sacctmgr"):
        read_admin_level(text, "alice")
