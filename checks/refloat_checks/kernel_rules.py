# SPDX-License-Identifier: Apache-2.0
"""The shipped rules of the kernel log: which lines tell of a fault of the node, and what ends it.

The forms are those of the drivers named beside the rules. Patterns begin at the beginning of the line: what users
choose (names of programs and files) stands further behind.
"""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from refloat_checks.api import Severity
from refloat_checks.kernel_lines import compiled


class Rule(BaseModel):
    """One kind of line that tells of a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="Its name.")
    pattern: str = Field(description="Regular expression (Python's). A group `(?P<of>...)` tells faults apart.")
    severity: Severity = Field(default=Severity.DRAIN, description='`"drain"` or `"warn"`.')
    clears: Literal["time", "line", "reboot", "never"] = Field(
        default="reboot",
        description='What ends the fault: `"time"` (`after_s` without such a line), `"line"` (one that matches `good`, '
        'with the same `of`), `"reboot"`; `"never"`: not even that mends it, so the message asks for repair. The log '
        "begins anew with each boot.",
    )
    after_s: float = Field(default=3600.0, gt=0, description="See `clears`.")
    good: str | None = Field(default=None, description="Regular expression of the line that ends the fault.")
    more_than: int = Field(
        default=0, ge=0, le=1000, description="Only more such lines than this within `after_s` are a fault."
    )
    contains: str = Field(
        default="", description="Text that all lines for `pattern` and `good` have; finds them quicker."
    )
    meaning: str = Field(min_length=1, description="What that means for the node, in a sentence.")

    @field_validator("pattern", "good")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            compiled(value)
        return value

    @model_validator(mode="after")
    def _agrees(self) -> "Rule":
        if (self.clears == "line") != (self.good is not None):
            raise ValueError('`good` goes with clears = "line"')
        return self


def _drain(name: str, contains: str, pattern: str, meaning: str, clears: Literal["reboot", "never"] = "reboot") -> Rule:
    return Rule(id=name, contains=contains, pattern=pattern, meaning=meaning, clears=clears)


def _warn(name: str, contains: str, pattern: str, meaning: str, more_than: int = 0) -> Rule:
    return Rule(
        id=name,
        contains=contains,
        pattern=pattern,
        meaning=meaning,
        severity=Severity.WARN,
        clears="time",
        more_than=more_than,
    )


def _until(name: str, contains: str, pattern: str, good: str, meaning: str, severity: Severity = Severity.WARN) -> Rule:
    return Rule(
        id=name,
        contains=contains,
        pattern=pattern,
        meaning=meaning,
        severity=severity,
        clears="line",
        good=good,
    )


_XID: Final = r"^NVRM: Xid \((?P<of>[^)]+)\): (?:{}),"
_CXI: Final = r"^\S+ \S+: (?P<of>cxi\d+)\[[^]]*\] "
# slurm.conf's cgroup v1 (`/slurm/uid_…`, `/slurm_NODE/uid_…`) and v2 (`…/slurmstepd.scope/job_…`).
_JOB: Final = r"(?:/slurm[^/,]*/uid_|/[^,]*slurmstepd\.scope/job_)"
_SYSTEM: Final = r"(?!/user\.slice/)(?!" + _JOB + ")"

RULES: Final[tuple[Rule, ...]] = (
    # arch/x86/kernel/cpu/mce/core.c: __print_mce
    _drain(
        "mce", "Machine Check", r"^mce: \[Hardware Error\]: CPU \d+: Machine Check Exception", "the processor failed"
    ),
    _warn("mce-logged", "Machine check events", r"^mce: \[Hardware Error\]: Machine check events", "see mcelog", 10),
    # drivers/edac/edac_mc.c: edac_ue_error, edac_ce_error
    _drain("edac-ue", "EDAC MC", r"^EDAC (?P<of>MC\d+): \d+ UE ", "memory returned data that cannot be corrected"),
    _warn("edac-ce", "EDAC MC", r"^EDAC (?P<of>MC\d+): \d+ CE ", "memory needs correction often", 100),
    # drivers/acpi/apei/ghes.c: __ghes_print_estatus
    _drain(
        "apei-fatal",
        "event severity",
        r"^\{\d+\}\[Hardware Error\]: event severity: fatal",
        "firmware saw a fatal error",
    ),
    _warn(
        "apei",
        "event severity",
        r"^\{\d+\}\[Hardware Error\]: event severity: (?:recover|correct)",
        "firmware saw errors",
    ),
    # mm/memory-failure.c: action_result, soft_offline_in_use_page
    _drain(
        "page-offline-failed",
        "recovery action for",
        r"^Memory failure: 0x(?P<of>[0-9a-f]+): recovery action for .*: (?:Failed|Ignored)",
        "a page of bad memory is still in use",
    ),
    # kernel/hung_task.c: check_hung_task
    _warn(
        "hung-task", "blocked for more than", r"^INFO: task .+:\d+ blocked for more than", "a process waits for ever"
    ),
    # kernel/watchdog.c, kernel/watchdog_perf.c, kernel/rcu/tree_stall.h
    _drain("soft-lockup", "soft lockup", r"^(?:NMI )?watchdog: BUG: soft lockup - ", "a processor is stuck"),
    _drain("hard-lockup", "hard LOCKUP", r"^(?:NMI )?watchdog: .*hard LOCKUP on cpu", "a processor is stuck"),
    _warn("rcu-stall", "stall", r"^rcu: INFO: \S+ (?:self-)?detected (?:expedited )?stall", "the kernel is held up"),
    # mm/oom_kill.c: dump_oom_victim
    _drain(
        "oom-system",
        "oom-kill:",
        rf"^oom-kill:(?>.*?,task_memcg=){_SYSTEM}",
        "a process of the system was killed for lack of memory",
    ),
    _warn(
        "oom-node",
        "oom-kill:",
        rf"^oom-kill:(?>.*?,task_memcg=)(?<=,global_oom,task_memcg=){_JOB}",
        "the whole node was out of memory",
    ),
    # fs/ext4/super.c, fs/jbd2/journal.c, fs/xfs/xfs_fsops.c: xfs_do_force_shutdown; fs/btrfs/messages.c
    _drain(
        "fs-readonly",
        "ead",
        r"^EXT4-fs \((?P<of>[^)]+)\): Remounting filesystem read-only|^BTRFS info \(device [^)]+\): forced readonly",
        "a filesystem went read-only",
    ),
    _drain("fs-journal", "Aborting journal", r"^Aborting journal on device (?P<of>\S+)\.", "a journal was aborted"),
    _drain("fs-ext4", "EXT4-fs error", r"^EXT4-fs error \(device (?P<of>[^)]+)\)", "a filesystem is damaged"),
    _drain(
        "fs-xfs",
        "XFS (",
        r"^XFS \((?P<of>[^)]+)\): (?:.*Shutting down filesystem|.*Metadata corruption detected|"
        r"Filesystem has been shut down)",
        "a filesystem is damaged or has shut down",
    ),
    # drivers/nvme/host/pci.c: nvme_timeout, nvme_reset_work, nvme_warn_reset
    _drain(
        "nvme-lost",
        "nvme nvme",
        r"^nvme (?P<of>nvme\d+): (?:Disabling device after reset|Removing after probe|Device not ready; aborting)",
        "an NVMe device is gone",
    ),
    _warn(
        "nvme-reset",
        "nvme nvme",
        r"^nvme (?P<of>nvme\d+): (?:controller is down|I/O .* timeout, )",
        "an NVMe device had to be reset",
    ),
    # block/blk-core.c: blk_print_req_error (blk_errors[])
    _drain(
        "disk-medium",
        "critical ",
        r"^(?:blk_update_request: )?critical (?:medium|target) error, dev (?P<of>\S+), ",
        "a disk cannot read what was written",
        "never",
    ),
    _warn("disk-io", "I/O error, dev", r"^(?:blk_update_request: )?I/O error, dev (?P<of>\S+), ", "a disk fails"),
    # docs.nvidia.com/deploy/xid-errors, "Analyzing Xid Errors with the Xid Catalog", by what that has one do at once:
    # RESTART_BM; RESET_GPU, and workflows that end with it; CHECK_MECHANICALS. What asks for less, and wants a look,
    # warns; what concerns an application alone (RESTART_APP, IGNORE) has no rule.
    _drain("xid-bus", "NVRM: Xid", _XID.format("79"), "a GPU has fallen off the bus: reboot, replace it if it stays"),
    _drain("xid-remap", "NVRM: Xid", _XID.format("64"), "a GPU could not retire bad memory: replace it if it stays"),
    _drain(
        "xid-reset",
        "NVRM: Xid",
        _XID.format("46|48|62|74|95|109|110|119|120|136|140|143|156|158"),
        "a GPU wants a reset",
    ),
    _drain("xid-power", "NVRM: Xid", _XID.format("54"), "a GPU's auxiliary power is not connected", "never"),
    # Xid 154 tells both that the driver wants something done and that it no longer does.
    _until(
        "xid-recovery",
        "NVRM: Xid",
        r"^NVRM: Xid \((?P<of>[^)]+)\): 154, .* to \S+ \((?!None\))",
        r"^NVRM: Xid \((?P<of>[^)]+)\): 154, .* to \S+ \(None\)",
        "the driver says that a GPU wants a reset or the node a reboot",
        Severity.DRAIN,
    ),
    _warn(
        "xid-memory",
        "NVRM: Xid",
        _XID.format("63|92|94|157|160|161|168"),
        "a GPU has errors of memory, or retired some: reset it when it is idle",
    ),
    # Which of them are fatal depends on their subcodes; Xid 154 says so.
    _warn("xid-nvlink", "NVRM: Xid", _XID.format("121|14[4-9]|150|155"), "an NVLink or C2C link of a GPU had errors"),
    # nvidia-nvswitch: the driver says itself whether it is fatal.
    _drain("sxid-fatal", "SXid", r"^nvidia-nvswitch\d+: SXid \((?P<of>[^)]+)\): \d+, Fatal", "an NVSwitch has failed"),
    _warn("sxid", "SXid", r"^nvidia-nvswitch\d+: SXid \((?P<of>[^)]+)\): \d+, Non-fatal", "an NVSwitch had errors"),
    # drivers/net/ethernet/mellanox/mlx5/core/health.c: poll_health; cmd.c: wait_func; en_main.c
    _drain(
        "mlx5-health",
        "mlx5_core",
        r"^mlx5_core (?P<of>\S+): .*(?:device's health compromised|Fatal error \d+ detected|health recovery failed)",
        "an InfiniBand or Ethernet adapter has failed",
    ),
    _warn("mlx5-command", "mlx5_core", r"^mlx5_core (?P<of>\S+): .*\) timeout\. Will cause a leak", "an adapter hangs"),
    _until(
        "mlx5-link",
        "mlx5_core",
        r"^mlx5_core (?P<of>\S+ \S+): Link down",
        r"^mlx5_core (?P<of>\S+ \S+): Link up",
        "a link is down",
    ),
    # drivers/infiniband/hw/hfi1/chip.c: update_statusp
    _until(
        "hfi1-link",
        "hfi1_",
        r"^hfi1 \S+: (?P<of>hfi1_\d+): logical state changed to PORT_DOWN",
        r"^hfi1 \S+: (?P<of>hfi1_\d+): logical state changed to PORT_ACTIVE",
        "an Omni-Path link is down",
    ),
    # shs-cxi-driver, drivers/net/ethernet/hpe/ss1: _cxi_log, cass_phy.c, cass_sbl.c: cass_sbl_async_alert, cass_uc.c
    _until(
        "cxi-link",
        "CXI_EVENT_LINK_",
        _CXI + "CXI_EVENT_LINK_DOWN",
        _CXI + "CXI_EVENT_LINK_UP",
        "a Slingshot link is down",
    ),
    _drain(
        "cxi-firmware",
        "serdes fw corruption",
        _CXI + r"\(sbl\): \d+: serdes fw corruption alert",
        "an adapter has failed",
    ),
    _warn(
        "cxi-degraded", "grade ", _CXI + r"\(sbl\): \d+: [rt]x degrade (?:failure )?alert", "a link runs on fewer lanes"
    ),
    _drain(
        "cxi-sensor",
        "uC: ",
        _CXI + r"uC: (?:ATT1_SENSOR_ALERT: sensor .* in fatal state: |QSFP_EPO_TEMPERATURE)",
        "a Slingshot adapter or its cable is too hot or out of its limits",
    ),
    # lnet/klnds/o2iblnd/o2iblnd_cb.c: kiblnd_qp_event, kiblnd_cm_callback
    _until(
        "lnet-down",
        "LNetError: ",
        r"^LNetError: \d+:\d+:\([^)]*\(\)\) Fatal device error for NI (?P<of>\S+)",
        r"^LNetError: \d+:\d+:\([^)]*\(\)\) Port reactivated for NI (?P<of>\S+)",
        "the network of Lustre is down",
    ),
    _drain(
        "lnet-removed",
        "LNetError: ",
        r"^LNetError: (?:[0-9a-f]+-[0-9a-f]+: )?Received notification of device removal",
        "the adapter of the network of Lustre is gone",
    ),
    # lustre/ptlrpc/import.c; libcfs: lbug_with_loc
    _drain("lustre-lbug", "LBUG", r"^LustreError: \d+:\d+:\(.*\) LBUG", "the Lustre client has stopped for good"),
    _warn("lustre-evicted", "evicted by", r"^LustreError: \S+ (?P<of>\S+): This client was evicted by", "I/O was lost"),
    _until(
        "lustre-lost",
        "onnection ",
        r"^Lustre: (?P<of>[^: ]+): Connection to .* was lost",
        r"^Lustre: (?P<of>[^: ]+): Connection restored to",
        "a Lustre target is away",
    ),
    # beegfs client_module: printk_fhgfs; NodeConnPool.c: NodeConnPool_acquireStreamSocketEx
    _warn(
        "beegfs-away",
        "beegfs: ",
        r"^beegfs: .{1,15}\(\d+\): .*Connect failed on all available routes: (?P<of>.+)",
        "a BeeGFS server does not answer",
    ),
    # net/sunrpc/clnt.c: rpc_check_timeout, call_decode
    _until(
        "nfs-away",
        "nfs: server",
        r"^nfs: server (?P<of>\S+) not responding",
        r"^nfs: server (?P<of>\S+) OK",
        "an NFS server does not answer",
    ),
    # drivers/pci/pcie/aer.c: aer_print_error
    _drain(
        "pcie-fatal",
        "PCIe Bus Error",
        r"^\S+ (?P<of>\S+): (?:AER: )?PCIe Bus Error: severity=Uncorrect(?:ed|able) \(Fatal\)",
        "a PCIe device has failed",
    ),
    _warn(
        "pcie-errors",
        "PCIe Bus Error",
        r"^\S+ (?P<of>\S+): (?:AER: )?PCIe Bus Error: severity=(?:Correct|Uncorrect(?:ed|able) \(Non)",
        "a PCIe device has errors",
        10,
    ),
    # drivers/thermal/intel/therm_throt.c: therm_throt_process
    _until(
        "throttled",
        "temperature",
        r"^(?:mce: )?CPU(?P<of>\d+: \w+) temperature (?:is )?above threshold",
        r"^(?:mce: )?CPU(?P<of>\d+: \w+) temperature/speed normal",
        "a processor is too hot and slowed down",
    ),
    # arch/*/mm/fault.c, lib/bug.c, arch/*/kernel/dumpstack.c, mm/page_alloc.c: bad_page
    _drain("kernel-bug", "kernel BUG at", r"^kernel BUG at ", "the kernel has a fault"),
    _drain("kernel-oops", "Oops", r"^(?:Internal error: )?Oops: ", "the kernel has a fault"),
    _drain(
        "kernel-fault",
        "BUG: ",
        r"^BUG: (?:unable to handle page fault|kernel NULL pointer dereference|Bad page )",
        "the kernel has a fault",
    ),
)
