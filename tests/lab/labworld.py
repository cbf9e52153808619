# SPDX-License-Identifier: Apache-2.0
"""The lab as the world of the gateway's contract: a gateway on this host whose programs run inside a container."""

import asyncio
import os
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from reflab.cluster import Lab
from reflab.places import CONTROLLER

from refloat_slurm.gateway import ClusterGateway, NodeView
from refloat_slurm.via_pyslurm import PyslurmGateway
from refloat_slurm.via_scontrol import ScontrolGateway

PYSLURM_FOLDER = os.environ.get("LAB_PYSLURM", "")
"""A folder with a pyslurm that was built for the release of the lab, as `pip install --target` leaves it."""

BACKENDS = ("scontrol", "pyslurm") if PYSLURM_FOLDER and os.environ.get("LAB_BARE") != "1" else ("scontrol",)
RUNNING_S = 20.0
POLL_S = 0.1


class LabWorld:
    """The lab as a `World`; what is done to it is done from threads, for the lab blocks."""

    def __init__(self, lab: Lab, gateway: ClusterGateway, node: str = "n1") -> None:
        self.lab = lab
        self.gateway = gateway
        self.node = node

    async def submit_job(self, node: str, seconds: float) -> str:
        job = await asyncio.to_thread(self.lab.submit, node, f"exec sleep {seconds:g}", "--ntasks=1")
        await asyncio.to_thread(self.lab.wait, lambda: self.lab.job_state(job) == "RUNNING", RUNNING_S, f"job {job}")
        return str(job)

    async def suspend(self, job: str) -> None:
        await asyncio.to_thread(self.lab.scontrol, "suspend", job)

    async def reboot(self, node: str) -> None:
        await asyncio.to_thread(self.lab.exec, node, ["systemctl", "reboot"])

    async def power_off(self, node: str) -> None:
        await asyncio.to_thread(self.lab.power_off, node)

    async def power_on(self, node: str) -> None:
        await asyncio.to_thread(self.lab.power_on, node)

    async def wait_for(self, node: str, predicate: Callable[[NodeView], bool], timeout_s: float) -> NodeView:
        until = time.monotonic() + timeout_s
        while not predicate(view := await self.gateway.node_in_full(node)):
            assert time.monotonic() < until, f"{node} is still {view}"
            await asyncio.sleep(POLL_S)
        return view


def gateway_inside(lab: Lab, name: str, folder: Path, backend: str) -> ScontrolGateway | PyslurmGateway:
    """The gateway as it would work in the container ``name``; its wrappers, in ``folder``, serve this boot only."""
    programs = ("scontrol", "sinfo", "squeue", "scancel", "sacctmgr")
    scontrol, sinfo, squeue, scancel, sacctmgr = (
        _wrapper(folder / word, lab, name, f"/usr/bin/{word}") for word in programs
    )
    if backend == "pyslurm":
        place = lab.node(name).share / "pyslurm"
        if not place.exists():
            shutil.copytree(PYSLURM_FOLDER, place)
        python = _wrapper(folder / "python", lab, name, "/usr/lib/refloat/bin/python", {"PYTHONPATH": "/lab/pyslurm"})
        return PyslurmGateway(squeue=squeue, python=python, scontrol=scontrol, scancel=scancel, sacctmgr=sacctmgr)
    return ScontrolGateway(scontrol, sinfo, squeue, scancel=scancel, sacctmgr=sacctmgr)


def _wrapper(path: Path, lab: Lab, name: str, program: str, environment: Mapping[str, str] | None = None) -> str:
    # Not the lab's `env -i`: the environment that the gateway makes for its programs is under test, too.
    enter = lab.node(name).enter()
    enter = enter[: enter.index("--") + 1]
    own = [f"{key}={value}" for key, value in (environment or {}).items()]
    path.write_text(f'#!/bin/sh\nexec {shlex.join([*enter, "env", *own, program])} "$@"\n')
    path.chmod(0o755)
    return str(path)


def tidy(lab: Lab, node: str = "n1") -> None:
    """End all jobs and bring the node back into service."""
    lab.exec(CONTROLLER, ["scancel", "--user=alice"])
    lab.restore(node)
    lab.wait(lambda: not lab.exec(CONTROLLER, ["squeue", "--noheader"]).stdout.strip(), RUNNING_S, "no jobs")
