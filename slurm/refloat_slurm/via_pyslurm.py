# SPDX-License-Identifier: Apache-2.0
"""The gateway through pyslurm: no fork per call, and a single-node read with its registration costs one node."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, Final

from refloat_contract.errors import RefloatError, Transient
from refloat_slurm.complaints import not_understood, sort_complaint
from refloat_slurm.gateway import AdminLevel, Change, Job, JobEnd, NodeView, Registration
from refloat_slurm.names import plain
from refloat_slurm.programs import admin_level, all_jobs, end_job, environment, jobs_on, partitions
from refloat_slurm.states import parse_flags
from refloat_slurm.via_scontrol import DEADLINE_S, check_change

_LONGEST_ANSWER: Final = 64 << 20  # a node table of 10,000 nodes takes 2 MB
_LAST_WORDS_BYTES: Final = 4096
_KILLED_WITHIN_S: Final = 1.0


class PyslurmGateway:
    """`ClusterGateway` by pyslurm in a helper process, one request at a time.

    Jobs come from squeue: pyslurm can only load the whole job table, its `Job.state` hides COMPLETING behind the state
    that the job ended in, and a job's nodes are a hostlist to be expanded here. That would be our guess in place of
    Slurm's own answer, for a call that is made once a cycle.
    """

    def __init__(
        self,
        squeue: str = "squeue",
        deadline_s: float = DEADLINE_S,
        python: str = sys.executable,
        *,
        scontrol: str = "scontrol",
        scancel: str = "scancel",
        sacctmgr: str = "sacctmgr",
    ) -> None:
        self._squeue = squeue
        self._scontrol = scontrol
        self._scancel = scancel
        self._sacctmgr = sacctmgr
        self._deadline_s = deadline_s
        self._worker = _Worker(python)
        self._lock = asyncio.Lock()
        self._known: dict[str, tuple[object, NodeView]] = {}

    @property
    def backend(self) -> str:
        """The backend's name."""
        return "pyslurm"

    @property
    def version(self) -> str:
        """The version of pyslurm; empty before the first call."""
        return self._worker.version

    async def node(self, name: str) -> NodeView:
        """Read one node, registration included, at the cost of one node."""
        answer = await self._ask(op="node", name=plain(name))
        view = _view(answer.get("node"))
        if view.name != name:
            raise not_understood(f"pyslurm on the node {name}", str(answer))
        return view

    async def node_in_full(self, name: str) -> NodeView:
        """Read one node with its registration."""
        return await self.node(name)

    async def nodes(self) -> Mapping[str, NodeView]:
        """Read the whole node table."""
        answer = await self._ask(op="nodes")
        records = answer.get("nodes")
        if not isinstance(records, list) or not records:
            raise not_understood("pyslurm on the node table", str(answer))
        # A record that says what it said before is the view that it was before: few of thousands change.
        known, self._known = self._known, {}
        for record in records:
            name = record.get("name") if isinstance(record, dict) else None
            before = known.get(name) if isinstance(name, str) else None
            view = before[1] if before is not None and before[0] == record else _view(record)
            self._known[view.name] = record, view
        return {name: view for name, (_, view) in self._known.items()}

    async def jobs(self, name: str) -> tuple[Job, ...]:
        """All jobs that hold the node, by squeue."""
        return await jobs_on(name, self._squeue, self._deadline_s)

    async def all_jobs(self) -> tuple[Job, ...]:
        """All jobs that hold nodes, by squeue."""
        return await all_jobs(self._squeue, self._deadline_s)

    async def end_job(self, job: str, how: JobEnd) -> None:
        """Requeue a job by scontrol, or cancel it by scancel."""
        await end_job(job, how, scontrol=self._scontrol, scancel=self._scancel, deadline_s=self._deadline_s)

    async def partitions(self) -> Mapping[str, str]:
        """The nodes of every partition, as a hostlist, by scontrol."""
        return await partitions(self._scontrol, self._deadline_s)

    async def admin_level(self, user: str) -> AdminLevel:
        """What accounting says of a user, by sacctmgr."""
        return await admin_level(user, self._sacctmgr, self._deadline_s)

    async def update(self, name: str, change: Change | None, reason: str | None = None) -> None:
        """Change state, reason or both."""
        check_change(change, reason)
        await self._ask(op="update", name=plain(name), state=change.value if change else None, reason=reason)

    async def aclose(self) -> None:
        """End the helper process."""
        async with self._lock:
            await self._worker.end()

    async def _ask(self, **request: str | None) -> dict[str, Any]:
        try:
            # The time spent waiting for another request counts: the caller wants an answer by its deadline.
            async with asyncio.timeout(self._deadline_s), self._lock:
                answer = await self._worker.ask(request)
                error = _complaint(answer)
                if isinstance(error, Transient):
                    # libslurm reads slurm.conf once: where slurmctld has moved to, only a new helper finds out.
                    await self._worker.end()
        except TimeoutError as late:
            raise Transient(f"pyslurm did not answer within {self._deadline_s:g} s; its helper was ended") from late
        if error is not None:
            raise error
        return answer


class _Worker:
    """The helper process: started by the first request, ended when one goes wrong, and started again by the next."""

    def __init__(self, python: str) -> None:
        self.version = ""
        # -P: the working directory must not provide modules.
        self._argv = (python, "-P", "-m", "refloat_slurm.pyslurm_worker")
        self._process: asyncio.subprocess.Process | None = None
        self._stderr = -1

    async def ask(self, request: Mapping[str, str | None]) -> dict[str, Any]:
        """Send one request and return its answer; whatever goes wrong, cancellation included, ends the process.

        A later answer to this request would otherwise be taken for the answer to the next one.
        """
        try:
            process = self._process or await self._started()
            return await self._exchanged(process, request)
        except BaseException:
            await self.end()
            raise

    async def _started(self) -> asyncio.subprocess.Process:
        # A pipe for stderr would need a reader; this needs none, and is emptied after each answer.
        self._stderr = os.memfd_create("pyslurm_worker", os.MFD_CLOEXEC)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=self._stderr,
                env=environment(os.environ),
                start_new_session=True,
                limit=_LONGEST_ANSWER,
            )
        except OSError as error:
            raise Transient(f"cannot start {self._argv[0]}: {error.strerror}") from error
        self._process = process
        greeting = await self._line(process)
        if "pyslurm" not in greeting:
            raise Transient(str(greeting.get("error", greeting)))
        self.version = str(greeting["pyslurm"])
        return process

    async def _exchanged(
        self, process: asyncio.subprocess.Process, request: Mapping[str, str | None]
    ) -> dict[str, Any]:
        if process.stdin is None:
            raise AssertionError("the worker was started with pipes")
        # A worker that has died tells why when we read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
        answer = await self._line(process)
        os.ftruncate(self._stderr, 0)
        os.lseek(self._stderr, 0, os.SEEK_SET)
        return answer

    async def _line(self, process: asyncio.subprocess.Process) -> dict[str, Any]:
        if process.stdout is None:
            raise AssertionError("the worker was started with pipes")
        try:
            line = await process.stdout.readline()
        except ValueError as error:
            raise Transient(f"pyslurm's answer is longer than {_LONGEST_ANSWER} bytes") from error
        if not line.endswith(b"\n"):
            raise Transient(f"pyslurm's helper ended with status {await process.wait()}: {self._last_words()}")
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise not_understood("pyslurm's helper", line.decode(errors="replace")) from error
        if not isinstance(answer, dict):
            raise not_understood("pyslurm's helper", line.decode(errors="replace"))
        return answer

    def _last_words(self) -> str:
        size = os.fstat(self._stderr).st_size
        words = os.pread(self._stderr, _LAST_WORDS_BYTES, max(0, size - _LAST_WORDS_BYTES))
        lines = [line.strip() for line in words.decode(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else "without a word"

    async def end(self) -> None:
        """Kill the process, if there is one; it holds nothing that would want a tidy end."""
        process, self._process = self._process, None
        stderr, self._stderr = self._stderr, -1
        if stderr >= 0:
            os.close(stderr)
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        if process.returncode is None:
            # Its whole session: it may be waiting for Slurm's word on what release this is.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        # In uninterruptible sleep it cannot be killed; it is left alone then.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILLED_WITHIN_S):
                await process.wait()


def _complaint(answer: Mapping[str, Any]) -> RefloatError | None:
    if "error" not in answer:
        return None
    errno = answer.get("errno")
    return sort_complaint(str(answer["error"]), errno if isinstance(errno, int) else None)


def _view(record: object) -> NodeView:
    try:
        if not isinstance(record, dict):
            raise TypeError(f"not a record: {record!r}")  # noqa: TRY301 - one way out for all misreadings
        return NodeView(
            str(record["name"]),
            parse_flags(record["state"]),
            str(record["reason"]),
            str(record["reason_user"]),
            int(record["reason_at"]),
            Registration(int(record["boot_time"]), int(record["slurmd_start_time"])),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Transient(f"cannot understand pyslurm: {error}") from error
