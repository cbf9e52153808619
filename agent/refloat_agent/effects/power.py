# SPDX-License-Identifier: Apache-2.0
"""This machine: its boot id, its image, and how to reboot it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from refloat_contract.errors import Misconfigured, Refused
from refloat_contract.images import image_id
from refloat_service import commands


@dataclass(frozen=True)
class MachinePower:
    """Reboots by a command (``systemctl reboot``), which returns once the request is accepted."""

    reboot_command: Sequence[str]
    deadline_s: float
    proc: Path = Path("/proc")
    image_file: Path = Path("/etc/image-release")

    @cached_property
    def _boot_id(self) -> str:
        path = self.proc / "sys/kernel/random/boot_id"
        try:
            return path.read_text().strip()
        except OSError as error:
            raise Misconfigured(f"{path}: {error.strerror}: refloat needs /proc") from error

    @cached_property
    def _image(self) -> str:
        try:
            return image_id(self.image_file.read_text(errors="replace"))
        except OSError:
            return ""  # most nodes name no image; a cycle that wants one is then held, and says so

    def boot_id(self) -> str:
        """The kernel's id of this boot."""
        return self._boot_id

    def image(self) -> str:
        """The image id of the file that the image build wrote; empty where there is none."""
        return self._image

    async def reboot(self) -> None:
        """Ask for the reboot.

        Raises:
            Refused: the command failed; its complaint is in the text.
            Transient: it did not end in time.
        """
        done = await commands.run(self.reboot_command, deadline_s=self.deadline_s)
        if done.returncode != 0:
            raise Refused(f"{' '.join(self.reboot_command)}: {done.complaint}")
