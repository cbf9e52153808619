# SPDX-License-Identifier: Apache-2.0
"""Every sentence that the agent holds a node with: what it means, and what to do. docs/held.md is made from this."""

from typing import Final

from refloat_contract.held import Hold

_STEPS: Final = "(STOPPING|UNMOUNTING|RUNNING|REBOOTING|MOUNTING|STARTING|CHECKING|RESUMING)"
_UNTIL: Final = "(failed .+|did not end within its deadline): .+"

ALL: Final = (
    Hold(
        "not-drained",
        "not drained: .+",
        "not drained: waiting for job 4711 to end",
        "The cycle waited for the node to be empty until `deadlines.draining` had passed. Nothing was stopped or "
        "unmounted. What stands behind the colon is still there: a job, a job step, or a state in which Slurm does not "
        "show the node as empty.",
        "Wait for the job or end it (that is yours to decide; refloat ends none), then `retry`. A job step that no job "
        "belongs to any more is a slurmstepd that hangs: look at it on the node. If jobs may run longer than the "
        "deadline, raise it, or set it to 0, which waits for ever.",
    ),
    Hold(
        "no-leave",
        "drained, but without leave to go on: .+",
        "drained, but without leave to go on: permit: budget cluster: 6 of 6 out",
        "The node is empty, but the coordinator gave no permit, or none was there to be asked, until "
        "`deadlines.draining` had passed.",
        "`refloat budget` on the coordinator's host shows which nodes use it up, and why. Bring those back, or raise "
        "the limit, then `retry`. Without a coordinator: `without_coordinator` in agent.toml.",
    ),
    Hold(
        "cannot-go-on",
        f"{_STEPS} cannot go on: .+",
        "UNMOUNTING cannot go on: job 4711 of alice is SUSPENDED on the node",
        "Before this step the node must be proven empty, or something must be read that could not be (the mount table, "
        "the services' states); that did not come about within the step's deadline.",
        "Look at what is named. A suspended job keeps a node from being empty. A state that could not be read names "
        "the tool that failed in the agent's log (`journalctl -u refloat-agent`). Then `retry`, or `release`.",
    ),
    Hold(
        "storage-busy",
        "unmount .+ busy: .+",
        "unmount /scratch busy: pid 991 python uid 1000 (job 4711)",
        "Storage is still in use past `unmount_deadline_s`, although no job runs on the node. The users are named.",
        "On the node: `ps -o pid,user,lstart,args -p PID`. End it, or have its owner end it; then `retry`. What "
        "comes back again and again (a monitoring daemon, a login shell) belongs into `services`, or off that "
        "filesystem. `busy` of the storage says whether to hold, wait, detach or go on ([storage.md](storage.md)).",
    ),
    Hold(
        "storage-hangs",
        "unmount .+ hangs in the kernel: .+",
        "unmount /scratch hangs in the kernel: pid 4242 umount sleeps uninterruptibly in rpc_wait_bit_killable",
        "The unmount waits in the kernel for a server. Nobody can end it, and no second one is begun.",
        "Mend the server or the network to it: the unmount then ends by itself, and `retry` goes on. If it cannot be "
        "mended, the node must be reset from outside; then `release`.",
    ),
    Hold(
        "storage-holder-unknown",
        "unmount .+ fails, and who holds it cannot be told: .+",
        "unmount /scratch fails, and who holds it cannot be told: the search ended without an answer",
        "The storage is in use, and the search for its users failed.",
        "Search by hand (`fuser -vm /scratch`, `lsof /scratch`), end what is found, then `retry`.",
    ),
    Hold(
        "storage-refused",
        "unmount [^:]+: .+",
        "unmount /scratch: umount: /scratch: permission denied",
        "The unmount was refused with these words, and those who use the storage are not the cause.",
        "Run the command of this driver ([storage.md](storage.md)) by hand, and mend what it says; then `retry`.",
    ),
    Hold(
        "storage-left",
        "\\S+ is unmounted, but .+|\\S+ is still mounted although its unmounting succeeded",
        "/gpfs is unmounted, but mmgetstate says active",
        "The unmount succeeded, but not all that belongs to the storage is gone: a daemon, a module, another mount in "
        "the same place.",
        "Look at what is left on the node and end it, then `retry`. `unload = false` leaves daemon and module as they "
        "are.",
    ),
    Hold(
        "storage-detached",
        "\\S+ is still mounted after umount --lazy: .+",
        "/scratch is still mounted after umount --lazy: unmount /scratch busy: pid 991 python uid 1000",
        '`busy = "lazy"`, and even detaching it did not take the mount away.',
        "See who mounts it again (an automount unit, a script). Then `retry`, or reboot the node by hand and "
        "`release`.",
    ),
    Hold(
        "unmounting-failed",
        f"UNMOUNTING {_UNTIL}",
        "UNMOUNTING failed 5 times: gpfs: mmumount: command not found",
        "Unmounting, or a hook of that step, or setting the node DOWN before it, failed until attempts or deadline "
        "were used up. Jobs cannot be on the node; part of the storage may be unmounted.",
        "Mend what is named, then `retry`. `release` mounts all of it again and resumes the node.",
    ),
    Hold(
        "stopping-failed",
        f"STOPPING {_UNTIL}",
        "STOPPING failed 5 times: systemctl stop labd.service: Job for labd.service canceled.",
        "A service of `services` did not stop, or a hook of that step failed.",
        "`systemctl status` of the service on the node. Mend it, then `retry`. Where a service may be left "
        'running, give the recipe\'s step `on_failure = "skip"` ([recipes.md](recipes.md)).',
    ),
    Hold(
        "running-failed",
        f"RUNNING {_UNTIL}",
        "RUNNING failed 3 times: fwupdate --apply: no such device",
        "A command of the recipe, or a hook of that step, failed until its attempts or its deadline were used up.",
        "The agent's log has the end of its output. Find out how far it came: `retry` begins the whole recipe anew, "
        "`release` brings the node back as it is now.",
    ),
    Hold(
        "rebooting-failed",
        f"REBOOTING {_UNTIL}",
        "REBOOTING failed 5 times: systemctl reboot: Failed to connect to bus",
        "Every way to reboot that the recipe and `reboot_ladder` allow was refused, or the step's hook failed.",
        "Reset the node from outside, or reboot it by hand. When it is up, `release`.",
    ),
    Hold(
        "no-reboot",
        "the reboot did not happen: the node is still in the same boot",
        "the reboot did not happen: the node is still in the same boot",
        "The reboot was asked for, by all rungs of the ladder, and `deadlines.rebooting` has passed.",
        "Look at the console: a shutdown that hangs. Reset the node from outside; when it is up, `release`.",
    ),
    Hold(
        "wrong-image",
        "booted image .+, wanted .+",
        "booted image compute-1, wanted compute-2 after 3 reboots",
        "The node came up with another image than the trigger's `image=`, as often as `image_retries` allows.",
        "Look at what the boot server gives to this node. Then `retry`, which reboots it again; or `release`, to take "
        "it as it is.",
    ),
    Hold(
        "mounting-failed",
        f"MOUNTING {_UNTIL}",
        "MOUNTING failed 5 times: scratch: nothing is mounted on /scratch",
        "Storage could not be mounted, or is not mounted as it should be (source, type, options, transport, probe).",
        "The sentence has the tool's words. Mend server, fabric or entry; `release` then mounts, checks and resumes. "
        "A wrong mount is reported, not mounted over: unmount it by hand first.",
    ),
    Hold(
        "storage-lost",
        "storage was lost .+ times after it was mounted",
        "storage was lost 6 times after it was mounted",
        "Between mounting and resuming the storage went away again, and again.",
        "Something unmounts it, or the connection comes and goes: `journalctl -k`, the fabric's counters. Then "
        "`release`.",
    ),
    Hold(
        "starting-failed",
        f"STARTING {_UNTIL}",
        "STARTING failed 5 times: systemctl start slurmd: Job for slurmd.service failed.",
        "A service of `services` did not start, or a hook of that step failed.",
        "`systemctl status` and `journalctl -u` of it on the node. Then `release`.",
    ),
    Hold(
        "checking-failed",
        f"CHECKING {_UNTIL}",
        "CHECKING failed 5 times: /usr/local/sbin/burn-in: exit status 1",
        "A hook of the step that checks the node failed. The checks themselves are the next sentences.",
        "Mend what the hook found, then `release`.",
    ),
    Hold(
        "check-failed",
        "check .+ (FAILED|fails): .+",
        "check labd FAILED: labd is not running (and 1 more)",
        "A check failed after the service, until `deadlines.checking` (or `deadlines.resuming`) had passed. A node is "
        "not resumed with a failing check, whatever its severity or damping.",
        "`refloat status n7` shows all of them. Mend what they name, then `release`: all is looked at anew. A check "
        "that is wrong is switched off with `refloat check off n7/labd` until the next boot.",
    ),
    Hold(
        "check-unknown",
        "check .+ UNKNOWN: .+",
        "check scratch UNKNOWN: no answer within 10 s",
        "A check could not be looked at: a tool is missing, a filesystem hangs, a deadline passed. That never drains a "
        "node, but a node that is out is not resumed without an answer.",
        "Mend what keeps it from looking. Then `release`.",
    ),
    Hold(
        "checks-not-run",
        "waiting for every check to have run|waiting for the checks' verdict",
        "waiting for every check to have run",
        "Not every check has been looked at since the node came up, within `deadlines.checking`.",
        "A check that takes longer than the deadline (a burn-in), or very many of them on a busy node: raise "
        "`deadlines.checking`. Then `release`.",
    ),
    Hold(
        "storage-wrong",
        "storage is not mounted as it should be: .+|the mount table could not be read",
        "storage is not mounted as it should be: scratch: nothing is mounted on /scratch",
        "The last look before the resume does not find storage as it should be.",
        "As for [mounting failed](#mounting-failed).",
    ),
    Hold(
        "service-down",
        "starting services",
        "starting services",
        "At the last look before the resume a service of `services` is not active.",
        "`systemctl status` of each on the node. One that starts and dies is the usual cause. Then `release`.",
    ),
    Hold(
        "slurmd-silent",
        "waiting for slurmd to register this boot",
        "waiting for slurmd to register this boot",
        "slurmd has not told slurmctld of this boot within `deadlines.resuming`.",
        "`systemctl status slurmd` and its log on the node: munge, clocks, slurm.conf, the network to slurmctld. Is it "
        "held back by the boot gate ([node-boot.md](node-boot.md))? Then `release`.",
    ),
    Hold(
        "resume-failed",
        f"RESUMING {_UNTIL}",
        "RESUMING failed 5 times: scontrol: Invalid node state specified",
        "slurmctld refused the resume, or giving back the drain that stood before; or a hook of that step failed.",
        "`scontrol show node`: the words are slurmctld's. `scontrol update nodename=n7 state=resume` by hand ends the "
        "cycle as well.",
    ),
    Hold(
        "resume-not-seen",
        "resumed; Slurm still shows .+",
        "resumed; Slurm still shows IDLE+NOT_RESPONDING",
        "The resume was accepted, but Slurm did not show the node in service within `deadlines.resuming`.",
        "slurmd does not answer slurmctld, or slurmctld shows another state of its own: `scontrol show node`. When the "
        "node is in service the hold ends by itself; else mend slurmd, and resume it by hand.",
    ),
    Hold(
        "slurm-at-work",
        "Slurm itself is rebooting or powering the node .+",
        "Slurm itself is rebooting or powering the node (DOWN+DRAIN+REBOOT_ISSUED); standing back",
        "`scontrol reboot` or power saving is at work on the node. refloat stands back from both.",
        "Let it end, or cancel it (`scontrol cancel_reboot n7`). Then `release`.",
    ),
    Hold(
        "slurm-state",
        "Slurm shows .+",
        "Slurm shows FROBNICATING, which this release does not know",
        "A state in which a resume would be refused, or of which this release of refloat cannot tell what it means.",
        "`scontrol show node`. A state of a new Slurm needs a newer refloat: resume the node by hand when it is well.",
    ),
    Hold(
        "trigger-unknown",
        "the configuration no longer knows the trigger .+",
        "the configuration no longer knows the trigger 'firmware'",
        "agent.toml was changed while the cycle ran, and has no such word any more.",
        "Put the recipe back into agent.toml and restart the agent, then `retry`; or `release`.",
    ),
    Hold(
        "journal-lost",
        "the agent's journal of this boot could not be read in mid-cycle",
        "the agent's journal of this boot could not be read in mid-cycle",
        "The file in `state_dir` was damaged, and the reason alone does not prove what was done before the reboot.",
        "Look at the disk (`dmesg`, `df`). Then `retry` for a new cycle, or `release`.",
    ),
    Hold(
        "loop",
        ".+ failed again after (.+ cycles|1 cycle); needs a human: refloat cycle release .+",
        "labd failed again after 2 cycles; needs a human: refloat cycle release n7",
        "The check's `remedy` was tried `health.loop_limit` times within `loop_window_s`, and it failed again.",
        "A reboot does not mend this. Find the cause; `release` begins the count anew.",
    ),
)
"""First match counts: what is more general stands below."""
