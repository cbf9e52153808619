# SPDX-License-Identifier: Apache-2.0

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat_contract.errors import Transient
from refloat_slurm.answers import read_nodes
from refloat_slurm.node_table import NodeTable

RECORD = (
    "NodeName={name} Arch=x86_64 CoresPerSocket=1 CPUAlloc=0 CPUTot=2 CPULoad={load} Version=24.11.5 OS=Linux 6.1"
    " RealMemory=2000 AllocMem=0 FreeMem=225 Sockets=2 Boards=1 State={state} ThreadsPerCore=1 Weight=1 Owner=N/A"
    " MCS_label=N/A Partitions=main BootTime={boot} SlurmdStartTime=1795215433 LastBusyTime={busy}"
    " ResumeAfterTime=None CfgTRES=cpu=2,mem=2000M,billing=2 AllocTRES= CurrentWatts=0 AveWatts=0 {tail}\n"
)


def record(
    name: str = "n1",
    *,
    load: str = "0.40",
    state: str = "IDLE",
    boot: str = "1795215421",
    busy: str = "1",
    tail: str = "",
) -> str:
    return RECORD.format(name=name, load=load, state=state, boot=boot, busy=busy, tail=tail)


RECORDS = st.builds(
    record,
    st.sampled_from(["n1", "n2", "n3"]),
    load=st.sampled_from(["0.00", "1.50"]),
    state=st.sampled_from(["IDLE", "IDLE+DRAIN", "DOWN+NOT_RESPONDING"]),
    boot=st.sampled_from(["None", "1795215421", "1795215999"]),
    busy=st.sampled_from(["1", "Unknown"]),
    tail=st.sampled_from(
        [
            "",
            "Reason=reboot [root@17]",
            "Reason=reboot [root@18]",
            "Reason=a State=DOWN LastBusyTime=1 AllocTRES= [root@17]",
            "Comment=x\nNodeName=n2 is broken",
            "Reason=line1 [root@17]        line2 Comment=NodeName=n9 Arch=",
        ]
    ),
)
ANSWERS = st.lists(st.lists(RECORDS, min_size=1, max_size=3).map("".join), min_size=1, max_size=5)


@given(ANSWERS)
def test_answers_are_read_as_each_would_be_by_itself(answers: list[str]) -> None:
    table = NodeTable()

    assert [table.read(answer) for answer in answers] == [read_nodes(answer) for answer in answers]


def test_a_node_of_which_nothing_new_is_said_stays_the_same_object() -> None:
    table = NodeTable()
    before = table.read(record("n1") + record("n2"))
    after = table.read(record("n1", load="9.99", busy="5") + record("n2", state="IDLE+DRAIN", tail="Reason=x [root@1]"))

    assert after["n1"] is before["n1"]
    assert after["n2"] is not before["n2"]
    assert after["n2"].reason == "x"


def test_a_release_that_words_its_records_otherwise_is_read_all_the_same() -> None:
    text = record("n1").replace(" AllocTRES=", " Elsewhere=")

    assert NodeTable().read(text) == read_nodes(text)


def test_a_node_that_is_gone_is_forgotten() -> None:
    table = NodeTable()
    table.read(record("n1") + record("n2"))

    assert set(table.read(record("n1"))) == {"n1"}
    assert set(table._known) == {"n1"}


@pytest.mark.parametrize(
    "text", ["", "\n", "slurm_load_node error: connect failure\n", record("n1") + "NodeName=n2 Arch=x\n"]
)
def test_what_is_no_node_table_is_not_understood(text: str) -> None:
    with pytest.raises(Transient):
        NodeTable().read(text)
