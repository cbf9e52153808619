# SPDX-License-Identifier: Apache-2.0
"""The configured storage: mounted in order and proven, unmounted in reverse order, each by its driver.

What is mounted is judged by the mount table, the driver's own tools and a probe; the filesystems themselves are touched
by disposable helper processes alone. What cannot be told counts neither as mounted rightly nor as unmounted.
"""

# ruff: noqa: PLC0415 - drivers are loaded when there is storage for them

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from refloat_agent.effects.storage import table
from refloat_agent.effects.storage.driver import PROOF_S, Budget, Driver, order
from refloat_agent.effects.storage.holders import HolderSearch
from refloat_agent.effects.storage.table import AUTOFS, Entry, Table
from refloat_agent.observation import StorageFacts
from refloat_agent.storage import Storage
from refloat_checks import mounts, proc
from refloat_checks.nhc.match import matches
from refloat_checks.probed import is_broken
from refloat_checks.probes import ProbePool
from refloat_contract.errors import GivenUp, RefloatError, Refused, Transient
from refloat_contract.words import Status

log = structlog.get_logger(__name__)

_ASK_AGAIN_S: Final = 5.0
_GONE: Final = "gone"


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two tries (the first pause; it doubles up to the longest), and two looks at what may hang."""

    again_s: float = 1.0
    longest_s: float = 5.0
    watch_s: float = 5.0


DEFAULT_PACE: Final = Pace()


@dataclass(frozen=True, slots=True)
class _Proof:
    """What was told of one mount (or of there being none), and when; empty: nothing against it."""

    of: str
    complaint: str
    at_s: float


@dataclass(slots=True)
class NodeMounts:
    """The Mounts port over the drivers."""

    storage: tuple[Storage, ...]
    roots: proc.Roots
    probes: ProbePool
    search: HolderSearch
    pace: Pace = DEFAULT_PACE
    _drivers: Mapping[str, Driver] = field(default_factory=dict)
    _proofs: dict[str, _Proof] = field(default_factory=dict)
    _notes: dict[str, str] = field(default_factory=dict)
    _skipped: dict[str, str] = field(default_factory=dict)
    _detached: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._drivers = {one.name: driver_of(one, self.roots) for one in self.storage}

    async def state(self) -> tuple[StorageFacts, ...]:
        """What is mounted, and whether it is proven.

        Raises:
            Transient: the mount table cannot be read.
        """
        seen = await self._table()
        return tuple(await asyncio.gather(*(self._facts(one, seen) for one in self.storage)))

    async def mount(self) -> None:
        """Mount what is not mounted, in the order of the configuration, and wait until each is proven."""
        self._proofs.clear()
        for one in self.storage:
            self._detached.discard(one.name)
            self._skipped.pop(one.name, None)
            await self._bring(one)

    async def unmount(self, cycle: str, *, reboots: bool, still: Callable[[], bool]) -> None:
        """Unmount what is mounted, in reverse order; what stays busy is dealt with as configured.

        Raises:
            GivenUp: it stayed busy.
            Refused, Transient: it cannot be unmounted for another reason, or that cannot be told.
        """
        for one in reversed(self.storage):
            try:
                await self._release(one, cycle, reboots=reboots, still=still)
            finally:
                self._notes.pop(one.name, None)

    async def _bring(self, one: Storage) -> None:
        budget = Budget(one.mount_s)
        facts = await self._look(one)
        if not facts.right and _is_absent(one, await self._table()):
            try:
                await self._drivers[one.name].mount(budget.left_s)
            except RefloatError:
                # Its own service may have mounted it meanwhile; then the tool's complaint is none of ours.
                if not (await self._look(one)).right:
                    raise
        # A client that was just mounted may still be connecting: that is waited for. What the table shows stays so.
        while not (facts := await self._look(one)).right:
            if budget.is_spent or not _is_as_listed(one, await self._table()):
                raise Refused(f"{one.name}: {facts.why}")
            await asyncio.sleep(self.pace.again_s)

    async def _release(self, one: Storage, cycle: str, *, reboots: bool, still: Callable[[], bool]) -> None:
        budget, pause_s = Budget(one.unmount_s), self.pace.again_s
        while (await self._look(one)).mounted:
            if not still():
                # The node is not proven empty any more, and the machine knows why: nothing is done until it is again.
                await asyncio.sleep(self.pace.again_s)
                continue
            busy = await self._try(one, one.unmount_s if one.busy == "wait" else budget.left_s)
            if not busy or not (await self._look(one)).mounted:
                continue
            self._note(one, busy)
            if budget.is_spent and one.busy != "wait" and still():
                await self._give_way(one, busy, cycle, reboots=reboots)
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, self.pace.longest_s)

    async def _try(self, one: Storage, deadline_s: float) -> str:
        """Try once; tell what keeps it mounted, and nothing when it went through.

        Raises what the driver raised when nobody holds the mount and the unmount does not hang.
        """
        if stuck := await self.search.stuck(one.path):
            return f"unmount {one.path} hangs in the kernel: {stuck}"
        seen = await self._table()
        entry, driver = seen.at(one.path), self._drivers[one.name]
        if entry is None:
            left = await _told(driver.remains(seen))
            try:
                await driver.unload(seen, deadline_s)
            except RefloatError as error:
                if not _is_busy(error):
                    raise
            return f"{one.path} is unmounted, but {left}"
        try:
            await self._watched(one, lambda: driver.unmount(deadline_s))
        except RefloatError as error:
            if why := await self._why_busy(one, entry):
                return why
            if _is_busy(error):
                return f"unmount {one.path}: {error}"
            raise
        # A tool that is content has proven nothing: what it says it unmounted may still be there.
        now = (await self._table()).at(one.path)
        return f"{one.path} is still mounted although its unmounting succeeded" if now == entry else ""

    async def _why_busy(self, one: Storage, entry: Entry) -> str:
        try:
            if stuck := await self.search.stuck(one.path):
                return f"unmount {one.path} hangs in the kernel: {stuck}"
            held = await self.search.who(entry)
        except RefloatError as error:
            return f"unmount {one.path} fails, and who holds it cannot be told: {error}"
        return f"unmount {one.path} busy: {held}" if held else ""

    async def _watched(self, one: Storage, act: Callable[[], Awaitable[None]]) -> None:
        """Do something that may hang, and note that it does while it does."""
        done = asyncio.Event()

        async def watch() -> None:
            while not await _within(done, self.pace.watch_s):
                if stuck := await self._stuck(one):
                    self._note(one, f"unmount {one.path} hangs in the kernel: {stuck}")

        async def acting() -> None:
            try:
                await act()
            finally:
                done.set()

        await asyncio.gather(acting(), watch())

    async def _stuck(self, one: Storage) -> str:
        try:
            return str(await self.search.stuck(one.path) or "")
        except RefloatError:
            return ""  # only a note is lost; the command has its own deadline

    def _note(self, one: Storage, note: str) -> None:
        if self._notes.get(one.name) != note:
            log.warning("storage_busy", storage=one.name, why=note)
        self._notes[one.name] = note

    async def _give_way(self, one: Storage, busy: str, cycle: str, *, reboots: bool) -> None:
        """Do what is configured for storage that is busy past its deadline."""
        if one.busy == "skip":
            log.warning("storage_left_mounted", storage=one.name, why=busy)
            self._skipped[one.name] = cycle
        elif one.busy == "lazy" and reboots:
            await self._detach(one, busy)
        else:
            raise GivenUp(busy)

    async def _detach(self, one: Storage, busy: str) -> None:
        # What holds it goes on using it, and nobody sees that any more: only the reboot that follows ends it.
        log.warning("storage_detached_lazily", storage=one.name, why=busy)
        if (await self._table()).at(one.path) is not None:
            await order(one, ["umount", "--lazy", "--no-canonicalize", one.path], PROOF_S)
        self._detached.add(one.name)
        if (await self._look(one)).mounted:
            raise GivenUp(f"{one.path} is still mounted after umount --lazy: {busy}")

    async def _look(self, one: Storage) -> StorageFacts:
        """Look anew, after something was done about it."""
        known = self._proofs.get(one.name)
        if known is not None and known.complaint:
            del self._proofs[one.name]
        return await self._facts(one, await self._table())

    async def _facts(self, one: Storage, seen: Table) -> StorageFacts:
        entry = seen.at(one.path)
        right, why = False, ""
        if entry is None:
            left = (
                "" if one.name in self._detached else await self._told_of(one, _GONE, lambda: self._remains(one, seen))
            )
            mounted, why = bool(left), left or f"nothing is mounted on {one.path}"
        elif entry.mount.fstype == AUTOFS:
            mounted, why = True, f"only the automount is set up on {one.path}"
        else:
            mounted = True
            finding = mounts.judge(seen.mounts, one.limits, one.name)
            why = finding.message
            if finding.status is Status.OK and (wrong := await self._unproven(one, entry)):
                why = f"{one.path}: {wrong}"
            elif finding.status is Status.OK:
                right = True
        note, skipped = self._notes.get(one.name, ""), self._skipped.get(one.name, "")
        return StorageFacts(one.name, mounted=mounted, right=right, why=why, note=note, skipped=skipped)

    async def _unproven(self, one: Storage, entry: Entry) -> str:
        return await self._told_of(one, f"{entry.id} {entry.mount.source}", lambda: self._complaint(one, entry))

    async def _remains(self, one: Storage, seen: Table) -> str:
        return await self._drivers[one.name].remains(seen)

    async def _complaint(self, one: Storage, entry: Entry) -> str:
        """What is wrong with a mount that the table shows rightly; asked in order of cost."""
        driver = self._drivers[one.name]
        if wrong := await driver.complaint(entry):
            return wrong
        if wrong := await self._probe(one):
            return wrong
        if one.transport is None:
            return ""
        ways = await driver.transports(entry)
        if not ways:
            return f"cannot tell by which transport it is connected (should be {one.transport})"
        others = sorted(way for way in ways if not matches(one.transport, way))
        return f"is connected by {', '.join(others)} (should be {one.transport})" if others else ""

    async def _probe(self, one: Storage) -> str:
        place = one.probe_path or one.path
        try:
            if one.probe == "read":
                await self.probes.list(place, PROOF_S, key=one.path)
            elif one.probe == "write":
                await self.probes.write(place, PROOF_S, key=one.path)
        except OSError as error:
            # To be denied a look is an answer, too: root may not read everywhere.
            if one.probe == "write" or is_broken(error):
                return f"cannot {one.probe} {place}: {error.strerror}"
        return ""

    async def _told_of(self, one: Storage, what: str, ask: Callable[[], Awaitable[str]]) -> str:
        """Ask a driver; a proof stands as long as its mount, anything else is asked again in a while."""
        now_s = asyncio.get_running_loop().time()
        known = self._proofs.get(one.name)
        if known is not None and known.of == what and (not known.complaint or now_s - known.at_s < _ASK_AGAIN_S):
            return known.complaint
        complaint = await _told(ask())
        self._proofs[one.name] = _Proof(what, complaint, asyncio.get_running_loop().time())
        return complaint

    async def _table(self) -> Table:
        try:
            return await asyncio.to_thread(table.read, self.roots)
        except (OSError, ValueError) as error:
            raise Transient(f"the mount table cannot be read: {error}") from error


def driver_of(one: Storage, roots: proc.Roots) -> Driver:
    """The driver of one storage, loaded when there is one: an agent pays for the drivers that it uses."""
    match one.kind:
        case "systemd":
            from refloat_agent.effects.storage.systemd import SystemdStorage

            return SystemdStorage(one)
        case "fstab":
            from refloat_agent.effects.storage.fstab import FstabStorage

            return FstabStorage(one)
        case "gpfs":
            from refloat_agent.effects.storage.gpfs import GpfsStorage

            return GpfsStorage(one)
        case "lustre":
            from refloat_agent.effects.storage.lustre import LustreStorage

            return LustreStorage(one, roots)
        case "beegfs":
            from refloat_agent.effects.storage.beegfs import BeegfsStorage

            return BeegfsStorage(one, roots)
        case "command":
            from refloat_agent.effects.storage.command import CommandStorage

            return CommandStorage(one)


def judge(one: Storage, seen: tuple[proc.Mount, ...]) -> StorageFacts:
    """What a mount table alone says of one storage."""
    finding = mounts.judge(seen, one.limits, one.name)
    return StorageFacts(
        name=one.name,
        mounted=proc.mount_at(seen, one.path) is not None,
        right=finding.status is Status.OK,
        why=finding.message,
    )


def _is_busy(error: RefloatError) -> bool:
    """Whether waiting may help: it took too long, or it says what umount(8) and rmmod(8) say of what is in use."""
    return isinstance(error, Transient) or any(word in str(error) for word in ("busy", "in use"))


def _is_absent(one: Storage, seen: Table) -> bool:
    entry = seen.at(one.path)
    return entry is None or entry.mount.fstype == AUTOFS


def _is_as_listed(one: Storage, seen: Table) -> bool:
    return not _is_absent(one, seen) and mounts.judge(seen.mounts, one.limits, one.name).status is Status.OK


async def _told(answer: Awaitable[str]) -> str:
    """What is told against something; not being able to tell is against it."""
    try:
        async with asyncio.timeout(2 * PROOF_S):
            return await answer
    except TimeoutError:
        return f"cannot tell: no answer within {2 * PROOF_S:g} s"
    except (RefloatError, OSError) as error:
        return f"cannot tell: {error}"


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether something happens within a time."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
