# SPDX-License-Identifier: Apache-2.0
"""Every sentence that a wave calls a node held with and that is not the agent's own; docs/held.md is made from this."""

from typing import Final

from refloat_contract.held import Hold

ALL: Final = (
    Hold(
        "did-not-come-back",
        "did not come back within .+ s",
        "did not come back within 3600 s",
        "The node was serviced, and its agent has not been heard of for `--node-deadline`. Nothing of it says `HELD`: "
        "there may be nobody there to say so.",
        "Console, power, boot server. When it comes up its agent goes on by the reason alone, and the wave counts it "
        "as done; `refloat wave retry` asks anew, `refloat wave skip` gives it up.",
    ),
    Hold(
        "agent-silent",
        "its agent has been silent for more than .+ s",
        "its agent has been silent for more than 3600 s",
        "Before its service began the agent of the node was gone from the broker for `--node-deadline`.",
        "On the node: `systemctl status refloat-agent`, and the network to the broker. Then `refloat wave retry`.",
    ),
    Hold(
        "jobs-not-ended",
        "its jobs have not ended within .+; it stays drained",
        "its jobs have not ended within 1 d; it stays drained",
        "The wave's `--deadline` for the jobs of one node has passed, with `--on-deadline hold`.",
        "Wait: once the jobs end the agent goes on, and the node counts as done. Or "
        "`refloat wave skip`, and `refloat cycle cancel` to give its drain back.",
    ),
    Hold(
        "jobs-do-not-end",
        "its jobs have not ended, though .+",
        "its jobs have not ended, though they are cancelled, as alice asked",
        "The jobs were requeued or cancelled, as the operator had asked of this wave, and a quarter of an hour later "
        "Slurm still shows some.",
        "`squeue -w n7`, `scontrol show job`: an epilog that hangs, a process that cannot be killed. See "
        "`UnkillableStepTimeout` of slurm.conf.",
    ),
    Hold(
        "wave-wrong-image",
        "booted image .+, wanted .+",
        "booted image compute-1, wanted compute-2",
        "The node's cycle is done and it is in service, but it reports another image than the wave's.",
        "What the boot server gives to this node, or what its /etc/image-release says that it is. "
        "Then `refloat wave retry`.",
    ),
    Hold(
        "held-by-agent",
        "held by its agent|held",
        "held by its agent",
        "The node's agent holds it, and the sentence has not arrived here.",
        "`refloat why n7` on the node, or `scontrol show node n7`: the reason has the sentence.",
    ),
)
