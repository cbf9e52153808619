# SPDX-License-Identifier: Apache-2.0
"""This machine: its boot id, its image, and the ways to reboot it."""

import asyncio
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Final

from refloat_agent.recipes import Way
from refloat_checks.proc import Roots
from refloat_contract.errors import Misconfigured, Refused, Transient
from refloat_contract.images import image_id
from refloat_service import commands

_COUNT: Final = ("systemctl", "show", "--property=SoftRebootsCount", "--value")
_COUNT_DEADLINE_S: Final = 20.0
_SYSRQ_PAUSE_S: Final = 2.0
_SYSTEMCTL: Final[Mapping[Way, tuple[str, ...]]] = MappingProxyType(
    {
        Way.KEXEC: ("systemctl", "kexec"),
        Way.SOFT: ("systemctl", "soft-reboot"),
        Way.FORCE: ("systemctl", "reboot", "--force"),
        Way.FORCE_FORCE: ("systemctl", "reboot", "--force", "--force"),
    }
)
# `systemctl reboot` takes a kernel that is loaded for kexec, or a new root at /run/nextroot, for the wish not to go
# through the firmware (systemd >= 254; systemctl(1)); a recipe says what it wants.
_AS_ASKED: Final = MappingProxyType({"SYSTEMCTL_SKIP_AUTO_KEXEC": "1", "SYSTEMCTL_SKIP_AUTO_SOFT_REBOOT": "1"})


@dataclass(frozen=True)
class MachinePower:
    """Reboots by systemctl, which returns once the request is accepted, and in the end by the kernel's SysRq."""

    reboot_command: Sequence[str]
    deadline_s: float
    roots: Roots = field(default_factory=Roots)
    count_command: Sequence[str] = _COUNT

    @cached_property
    def _boot_id(self) -> str:
        path = self.roots.proc / "sys/kernel/random/boot_id"
        try:
            kernel = path.read_text().strip()
        except OSError as error:
            raise Misconfigured(f"{path}: {error.strerror}: refloat needs /proc") from error
        count = self._soft_reboots
        return f"{kernel}.{count}" if count else kernel

    @cached_property
    def _soft_reboots(self) -> int | None:
        """How many soft reboots there were since the kernel started; None where systemd does not count them."""
        if not (self.roots.root / "run/systemd/system").is_dir():
            return None  # another init, which cannot reboot softly
        try:
            done = subprocess.run(
                self.count_command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_COUNT_DEADLINE_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            # Never guess: with another answer this boot would look like another one.
            raise Transient(f"{' '.join(self.count_command)}: {error}") from error
        word = done.stdout.strip()
        if done.returncode != 0:
            raise Transient(f"{' '.join(self.count_command)}: {done.stderr.strip() or done.returncode}")
        return int(word) if word.isdecimal() else None

    @cached_property
    def _image(self) -> str:
        path: Path = self.roots.root / "etc/image-release"
        try:
            return image_id(path.read_text(errors="replace"))
        except OSError:
            return ""  # most nodes name no image; a cycle that wants one is then held, and says so

    def boot_id(self) -> str:
        """The kernel's id of this boot, and ``.n`` after n soft reboots within it.

        Raises:
            Misconfigured: there is no /proc.
            Transient: systemd runs here, but does not say how often it was rebooted softly.
        """
        return self._boot_id

    def image(self) -> str:
        """The image id of the file that the image build wrote; empty where there is none."""
        return self._image

    async def reboot(self, way: Way) -> None:
        """Ask for the reboot.

        Raises:
            Refused: it cannot be done this way; the complaint is in the text.
            Transient: the command did not end in time.
        """
        if way is Way.SYSRQ:
            await self._sysrq()
            return
        if way is Way.KEXEC:
            await asyncio.to_thread(self._need_kernel)
        if way is Way.SOFT and self._soft_reboots is None:
            raise Refused("systemd here has no SoftRebootsCount: a soft reboot could not be proven")
        argv = _SYSTEMCTL.get(way, tuple(self.reboot_command))
        done = await commands.run(argv, deadline_s=self.deadline_s, env={**os.environ, **_AS_ASKED})
        if done.returncode != 0:
            raise Refused(f"{' '.join(argv)}: {done.complaint}")

    def _need_kernel(self) -> None:
        path = self.roots.sys / "kernel/kexec_loaded"
        try:
            loaded = path.read_text().strip() == "1"
        except OSError as error:
            raise Refused(f"{path}: {error.strerror}: this kernel cannot kexec") from error
        if not loaded:
            raise Refused("no kernel is loaded for kexec; the step's pre hook has to load one (kexec -l)")

    async def _sysrq(self) -> None:
        """Sync, remount read-only, reboot: by the kernel, whatever systemd does. Sync and remount run in its back."""
        for key in "sub":
            await asyncio.to_thread(self._press, key)
            await asyncio.sleep(_SYSRQ_PAUSE_S)

    def _press(self, key: str) -> None:
        path = self.roots.proc / "sysrq-trigger"
        try:
            path.write_text(key)
        except OSError as error:
            raise Refused(f"{path}: {error.strerror}") from error
