# SPDX-License-Identifier: Apache-2.0
"""The lines are written in the forms that the drivers' sources give; where, stands beside the rules."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from refloat_checks import kernel_log, registry
from refloat_checks.api import Severity
from refloat_checks.facts import Facts
from refloat_checks.kernel_faults import NOTHING, Fault, Faults, fold, standing
from refloat_checks.kernel_follower import Follower, by_needle, follower, suspects
from refloat_checks.kernel_lines import is_from_kernel, logged_at_s, message, number
from refloat_checks.kernel_log import KernelLogLimits, judge
from refloat_checks.kernel_rules import RULES, Rule
from refloat_checks.proc import Roots
from refloat_contract.errors import Misconfigured, Transient
from refloat_contract.words import Status

OOM = "oom-kill:constraint=CONSTRAINT_{},nodemask=(null),cpuset=/,mems_allowed=0{}task_memcg={},task={},pid=7,uid=0"
LINES = {
    "mce": "mce: [Hardware Error]: CPU 3: Machine Check Exception: 5 Bank 9: be00000000800400",
    "mce-logged": "mce: [Hardware Error]: Machine check events logged",
    "edac-ue": "EDAC MC1: 1 UE memory read error on CPU_SrcID#1_MC#0_Chan#0_DIMM#0 (channel:0 slot:0 page:0x1)",
    "edac-ce": "EDAC MC0: 1 CE memory scrubbing error on CPU_SrcID#0_MC#1_Chan#1_DIMM#0 (channel:1 slot:0)",
    "apei-fatal": "{1}[Hardware Error]: event severity: fatal",
    "apei": "{2}[Hardware Error]: event severity: corrected",
    "page-offline-failed": "Memory failure: 0x12ab: recovery action for dirty LRU page: Failed",
    "hung-task": "INFO: task a.out:4711 blocked for more than 120 seconds.",
    "soft-lockup": "watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [a.out:4711]",
    "hard-lockup": "watchdog: Watchdog detected hard LOCKUP on cpu 3",
    "rcu-stall": "rcu: INFO: rcu_sched self-detected stall on CPU",
    "oom-system": OOM.format("NONE", ",global_oom,", "/system.slice/munge.service", "munged"),
    "oom-node": OOM.format("NONE", ",global_oom,", "/system.slice/slurmstepd.scope/job_7/step_0/user/task_0", "x"),
    "fs-readonly": "EXT4-fs (sda1): Remounting filesystem read-only",
    "fs-journal": "Aborting journal on device sda1-8.",
    "fs-ext4": "EXT4-fs error (device sda1): ext4_find_entry:1455: inode #2: comm ls: reading directory lblock 0",
    "fs-xfs": "XFS (dm-0): Corruption of in-memory data (0x8) detected at f (fs/xfs/x.c:1).  Shutting down filesystem.",
    "nvme-lost": "nvme nvme0: Disabling device after reset failure: -19",
    "nvme-reset": "nvme nvme0: I/O tag 12 (100c) opcode 0x2 (I/O Cmd) QID 3 timeout, aborting req_op:READ(0) size:4096",
    "disk-medium": "critical medium error, dev sdb, sector 1 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2",
    "disk-io": "blk_update_request: I/O error, dev sda, sector 1 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 0",
    "xid-bus": "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, name=a.out, GPU has fallen off the bus.",
    "xid-remap": "NVRM: Xid (PCI:0000:3b:00): 64, pid=1234, name=a.out, Row Remapper Error",
    "xid-reset": "NVRM: Xid (PCI:0000:3b:00): 95, pid=1234, name=a.out, Uncontained: LTC TAG (0x2,0x0)",
    "xid-recovery": "NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 "
    "(GPU Reset Required)",
    "xid-memory": "NVRM: Xid (PCI:0000:3b:00): 63, pid=1896, Row Remapper: New row marked for remapping",
    "sxid-fatal": "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 22013, Fatal, Link 46 Minion Link DLREQ interrupt",
    "sxid": "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error",
    "mlx5-health": "mlx5_core 0000:d2:00.0: poll_health:825:(pid 0): device's health compromised - reached miss count",
    "mlx5-command": "mlx5_core 0000:d2:00.0: wait_func:1195:(pid 19): ENABLE_HCA(0x104) timeout. "
    "Will cause a leak of a command resource",
    "mlx5-link": "mlx5_core 0000:3b:00.0 ib0: Link down",
    "hfi1-link": "hfi1 0000:05:00.0: hfi1_0: logical state changed to PORT_DOWN (0x1)",
    "xid-power": "NVRM: Xid (PCI:0000:3b:00): 54, pid=1234, name=a.out, Auxiliary power",
    "xid-nvlink": "NVRM: Xid (PCI:0000:3b:00): 149, NETIR_LINK_EVT Fatal XC0 i0 Link 05 (0x0000)",
    "cxi-link": "cxi_ss1 0000:21:00.0: cxi0[hsn0] CXI_EVENT_LINK_DOWN",
    "cxi-firmware": "cxi_ss1 0000:21:00.0: cxi0[hsn0] (sbl): 0: serdes fw corruption alert",
    "cxi-degraded": "cxi_ss1 0000:21:00.0: cxi0[hsn0] (sbl): 0: rx degrade failure alert",
    "cxi-sensor": "cxi_ss1 0000:21:00.0: cxi0[hsn0] uC: ATT1_SENSOR_ALERT: sensor 'ASIC' (3) in fatal state: 9 not in "
    "[0..8]",
    "lnet-down": "LNetError: 4711:0:(o2iblnd_cb.c:3872:kiblnd_qp_event()) Fatal device error for NI 10.0.0.1@o2ib",
    "lnet-removed": "LNetError: 131-3: Received notification of device removal",
    "beegfs-away": "beegfs: a.out(7): 4B-5F-n1: NodeConn (acquire stream): Connect failed on all available routes: "
    "beegfs-storage s01 [ID: 1]",
    "lustre-lbug": "LustreError: 4711:0:(file.c:123:ll_open()) LBUG",
    "lustre-evicted": "LustreError: 167-0: s-OST0000-osc-ffff: This client was evicted by s-OST0000; in progress "
    "operations using this service will fail.",
    "lustre-lost": "Lustre: s-OST0000-osc-ffff: Connection to s-OST0000 (at 10.0.0.1@o2ib) was lost; in progress "
    "operations using this service will wait for recovery to complete",
    "nfs-away": "nfs: server home not responding, still trying",
    "pcie-fatal": "pcieport 0000:00:01.0: AER: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer",
    "pcie-errors": "nvme 0000:01:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)",
    "throttled": "CPU0: Core temperature is above threshold, cpu clock is throttled (total events = 1)",
    "kernel-bug": "kernel BUG at mm/slub.c:305!",
    "kernel-oops": "Oops: 0000 [#1] SMP NOPTI",
    "kernel-fault": "BUG: kernel NULL pointer dereference, address: 0000000000000008",
}
GOOD = {
    "xid-recovery": "NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 "
    "(None)",
    "cxi-link": "cxi_ss1 0000:21:00.0: cxi0[hsn0] CXI_EVENT_LINK_UP",
    "lnet-down": "LNetError: 4712:0:(o2iblnd_cb.c:3880:kiblnd_qp_event()) Port reactivated for NI 10.0.0.1@o2ib",
    "mlx5-link": "mlx5_core 0000:3b:00.0 ib0: Link up",
    "hfi1-link": "hfi1 0000:05:00.0: hfi1_0: logical state changed to PORT_ACTIVE (0x4)",
    "lustre-lost": "Lustre: s-OST0000-osc-ffff: Connection restored to 10.0.0.1@o2ib (at 10.0.0.1@o2ib)",
    "nfs-away": "nfs: server home OK",
    "throttled": "CPU0: Core temperature/speed normal",
}
BY_ID = {rule.id: rule for rule in RULES}


def raw(message: str, sequence: int = 0, priority: int = 3) -> bytes:
    return f"{priority},{sequence},1000000,-;{message}\n SUBSYSTEM=x\n".encode()


def folded(*records: bytes, rules: Sequence[Rule] = RULES, faults: Faults = NOTHING) -> Faults:
    return fold(faults, ((message(record), 1.0, near) for record, near in suspects(records, by_needle(rules))))


def found(*messages: str, rules: Sequence[Rule] = RULES, now_s: float = 1.0, priority: int = 3) -> tuple[Fault, ...]:
    return standing(folded(*(raw(each, priority=priority) for each in messages), rules=rules), now_s)


def test_a_record_is_parsed_with_its_escapes() -> None:
    record = rb"30,7,2500000,-;caf\xc3\xa9 \x5c" + b"\n SUBSYSTEM=pci\n DEVICE=+pci:0000:01:00.0\n"

    assert (number(record), logged_at_s(record), message(record)) == (7, 2.5, "café \\")
    assert not is_from_kernel(record)


def test_a_rule_finds_what_the_kernel_escapes() -> None:
    rule = Rule(id="a", contains="café \\7", pattern=r"^the café \\7$", meaning="m")

    (fault,) = folded(rb"3,7,2500000,-;the caf\xc3\xa9 \x5c7" + b"\n", rules=[rule]).values()
    assert fault.line == "the café \\7"


def test_what_many_rules_know_is_found_among_what_none_does() -> None:
    faults = folded(raw(LINES["xid-bus"]), raw("usb 1-1: new device"), raw(LINES["fs-journal"]), raw(LINES["fs-ext4"]))

    assert [rule for rule, _ in faults] == ["xid-bus", "fs-journal", "fs-ext4"]


@pytest.mark.parametrize("record", [b"", b"hello", b"3,x,5,-;hello"])
def test_what_is_no_record_is_an_error_of_the_file(record: bytes) -> None:
    with pytest.raises(OSError, match="not a record"):
        number(record)


def test_every_shipped_rule_has_a_line() -> None:
    assert LINES.keys() == BY_ID.keys()
    assert GOOD.keys() == {rule.id for rule in RULES if rule.good is not None}


@pytest.mark.parametrize("name", LINES)
def test_a_line_is_the_fault_of_its_rule_alone(name: str) -> None:
    faults = found(*[LINES[name]] * (BY_ID[name].more_than + 1))

    assert [fault.rule.id for fault in faults] == [name]
    assert BY_ID[name].contains in LINES[name]
    assert not found(*[LINES[name]] * BY_ID[name].more_than)


@pytest.mark.parametrize("name", GOOD)
def test_a_good_line_ends_the_fault_of_its_subject_only(name: str) -> None:
    other = LINES[name].replace("0", "1").replace("home", "scratch")

    assert not found(LINES[name], GOOD[name])
    assert [fault.rule.id for fault in found(LINES[name], other, GOOD[name])] == [name]
    assert BY_ID[name].contains in GOOD[name]


@pytest.mark.parametrize("name", LINES)
def test_what_a_program_writes_is_no_fault(name: str) -> None:
    assert not found(*[LINES[name]] * (BY_ID[name].more_than + 1), priority=11)


@pytest.mark.parametrize(
    "line",
    [
        OOM.format("MEMCG", ",oom_memcg=/slurm/uid_1/job_7,", "/slurm/uid_1/job_7/step_0", "a.out"),
        OOM.format("MEMCG", ",oom_memcg=/x,", "/system.slice/slurmstepd.scope/job_7/step_0/user", ",task_memcg=/ab"),
        OOM.format("MEMCG", ",oom_memcg=/x,", "/system.slice/n1_slurmstepd.scope/job_7/step_0", "a.out"),
        OOM.format("MEMCG", ",oom_memcg=/x,", "/user.slice/user-1000.slice/session-1.scope", "bash"),
        "NVRM: Xid (PCI:0000:3b:00): 13, pid=1, name=a.out, Graphics SM Warp Exception",
        "NVRM: Xid (PCI:0000:3b:00): 31, pid=1, name=a.out, Ch 00000010, intr 00000000",
        "kernel BUG at a[7]: segfault at 0 ip 0000000000000000 sp 00007ffc00000000 error 14 in a.out[400000+1000]",
        "Oops: 0000 [#1][7]: segfault at 0 ip 0000000000000000 sp 00007ffc00000000 error 14 in a.out[400000+1000]",
        "NVRM: Xid (PCI:0000:3b:00): 43, pid=1, name=a.out, Ch 00000010",
        "NVRM: Xid (PCI:0000:3b:00): 45, pid=1, name=a.out, Ch 00000010",
        "NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x2 (Node Reboot Required) to 0x0 (None)",
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module",
    ],
)
def test_what_a_job_does_to_itself_is_no_fault_of_the_node(line: str) -> None:
    assert not found(line)


def test_a_fault_ends_with_time_or_with_the_boot_only() -> None:
    lines = (LINES["nvme-reset"], LINES["xid-bus"])

    assert len(found(*lines, now_s=3600.0)) == 2
    assert [fault.rule.id for fault in found(*lines, now_s=3601.1)] == ["xid-bus"]


@pytest.mark.parametrize(("fails_on", "status"), [(Severity.DRAIN, Status.OK), (Severity.WARN, Status.FAILED)])
def test_a_rule_that_warns_fails_only_a_check_that_asks_for_warnings(fails_on: Severity, status: Status) -> None:
    faults = folded(raw(LINES["nfs-away"]))

    finding = judge(faults, 1.0, KernelLogLimits(fails_on=fails_on), "k")

    assert finding.status is status
    assert "an NFS server does not answer (nfs-away: nfs: server home not responding" in finding.message


def test_names_in_lines_do_not_fill_the_memory() -> None:
    faults = folded(*(raw(f"nfs: server s{each} not responding") for each in range(100)))
    faults = folded(*(raw(f"nfs: server t{each} not responding") for each in range(100)), faults=faults)

    assert len(faults) == 65
    assert faults["nfs-away", "others"].count == 136


def test_a_storm_of_one_line_is_one_fault_with_its_count_and_last_line() -> None:
    faults = folded(*(raw(f"I/O error, dev sda, sector {each} op") for each in range(1000)))

    (fault,) = faults.values()
    assert (fault.count, len(fault.times), fault.line) == (1000, 1, "I/O error, dev sda, sector 999 op")


def test_lines_that_change_nothing_leave_the_faults_as_they_are() -> None:
    faults = folded(raw(LINES["nfs-away"]))

    assert folded(raw("usb 1-1: new device"), raw("nfs: server scratch OK"), faults=faults) is faults


def test_a_site_adds_replaces_disables_and_weighs_rules() -> None:
    (spec,) = registry.build(
        [
            {
                "name": "k",
                "type": "kernel-log",
                "disable": ["hung-task"],
                "severities": {"nfs-away": "drain"},
                "rules": [{"id": "mce", "pattern": "^mine", "meaning": "ours"}],
            }
        ]
    )

    assert isinstance(spec.limits, KernelLogLimits)
    chosen = {rule.id: rule for rule in spec.limits.chosen()}
    assert chosen.keys() == BY_ID.keys() - {"hung-task"}
    assert chosen["nfs-away"].severity is Severity.DRAIN
    assert chosen["mce"].pattern == "^mine"


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"rules": [{"id": "a", "pattern": "(", "meaning": "m"}]}, r"rules.0.pattern = '\('.*not a regular expression"),
        ({"rules": [{"id": "a", "pattern": "x", "meaning": "m", "clears": "line"}]}, "`good` goes with"),
        ({"disable": ["hungtask"]}, "no shipped rule is called 'hungtask'"),
    ],
)
def test_what_is_wrong_with_rules_is_named(keys: dict[str, object], complaint: str) -> None:
    with pytest.raises(Misconfigured, match=complaint):
        registry.build([{"name": "k", "type": "kernel-log", **keys}])


class Log:
    """Stands for /dev/kmsg: a pipe each read of which gives one record."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_DIRECT | os.O_NONBLOCK | os.O_CLOEXEC)
        self.path = Path(f"/proc/self/fd/{self.reading}")
        self.sequence = 0

    def write(self, *messages: str, skip: int = 0) -> None:
        self.sequence += skip
        for each in messages:
            os.write(self.writing, raw(each, self.sequence))
            self.sequence += 1

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    yield log
    log.close()


def test_only_what_is_new_is_read_and_what_was_lost_is_counted(log: Log) -> None:
    reader = Follower(log.path, by_needle(RULES))
    log.write("usb 1-1: new device", LINES["xid-bus"])
    assert not reader.read_new(5.0)
    log.write(LINES["xid-bus"], skip=4)
    assert not reader.read_new(6.0)
    reader.close()

    (fault,) = reader.faults.values()
    assert (fault.count, fault.times, reader.records, reader.lost) == (2, (6.0,), 3, 4)


def test_opened_again_it_reads_no_record_twice(log: Log) -> None:
    reader = Follower(log.path, by_needle(RULES))
    log.write(LINES["xid-bus"])
    for _ in range(2):
        with reader.reading():
            reader.read_new(5.0)
        log.sequence = 0
        log.write(LINES["xid-bus"], LINES["xid-reset"])
    with reader.reading():
        reader.read_new(5.0)

    assert [(key[0], fault.count) for key, fault in reader.faults.items()] == [("xid-bus", 1), ("xid-reset", 1)]


def test_a_change_is_told_whoever_has_read(log: Log) -> None:
    told: list[int] = []
    reader = Follower(log.path, by_needle(RULES), on_change=lambda: told.append(reader.records))
    for line in ("usb 1-1: new device", LINES["nfs-away"], "nfs: server home OK", "nfs: server home OK"):
        log.write(line)
        reader.read_new(1.0)
    reader.close()

    assert told == [2, 3]


def test_the_same_rules_share_a_reader_and_others_leave_nothing_behind(log: Log) -> None:
    def wakes(**limits: object) -> tuple[object, ...]:
        (spec,) = registry.build([{"name": "k", "type": "kernel-log", "path": str(log.path), **limits}])
        return registry.wakes_of(spec)

    before = open_files()
    mine = wakes()
    assert mine == wakes(fails_on="warn")
    others = [wakes(disable=[rule.id]) for rule in RULES]
    assert mine not in others
    del others
    for rule in RULES:
        reader = follower(log.path, (rule,))
        with reader.reading():
            reader.read_new(1.0)

    assert open_files() == before


@pytest.mark.parametrize("text", ["hello\n", ""])
async def test_a_file_that_is_no_log_is_no_fault(facts: Facts, tmp_path: Path, text: str) -> None:
    (tmp_path / "kmsg").write_text(text)

    with pytest.raises(Transient, match=r"the kernel log cannot be read: .*(not a record|ended)"):
        await kernel_log.look(facts, KernelLogLimits(path=str(tmp_path / "kmsg")), "k")


async def test_a_log_that_is_not_there_is_no_fault(facts: Facts, tmp_path: Path) -> None:
    facts.roots = Roots(facts.roots.proc, facts.roots.sys, tmp_path)

    with pytest.raises(Transient, match=r"the kernel log cannot be read: .*No such file"):
        await kernel_log.look(facts, KernelLogLimits(), "k")


@pytest.mark.skipif(not os.access("/dev/kmsg", os.R_OK), reason="the kernel log is not ours to read")
async def test_the_kernel_s_own_log_is_read(facts: Facts) -> None:
    limits = KernelLogLimits(rules=(Rule(id="boot", pattern="^", meaning="it logs"),), disable=frozenset(BY_ID))

    finding = await kernel_log.look(facts, limits, "k")

    assert finding.status is Status.FAILED
    assert finding.message.startswith("it logs (boot, ")
