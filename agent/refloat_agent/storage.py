# SPDX-License-Identifier: Apache-2.0
"""The `[[storage]]` tables of agent.toml: what is unmounted and mounted, by which driver, and what proves it."""

from collections.abc import Mapping
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from refloat_checks.mounts import MountLimits
from refloat_checks.nhc.match_string import MatchString
from refloat_service.settings import Settings

Argv = tuple[str, ...]
Driver = Literal["systemd", "fstab", "gpfs", "lustre", "beegfs", "command"]

_MOUNT_S: Final = 300.0
_UNMOUNT_S: Final = 120.0
_BELONGS: Final[Mapping[str, frozenset[Driver]]] = {
    "device": frozenset({"gpfs", "lustre"}),
    "mount_options": frozenset({"lustre"}),
    "unit": frozenset({"systemd", "lustre", "beegfs"}),
    "unload": frozenset({"gpfs", "lustre", "beegfs"}),
    "program_dir": frozenset({"gpfs"}),
}
"""The keys that only some drivers know."""


class Storage(Settings):
    """One filesystem that is unmounted before the node is serviced, and must be mounted rightly afterwards."""

    name: str = Field(description="What messages call it.")
    path: str = Field(pattern=r"^/", description="Its mount point, as the mount table spells it.")
    driver: Driver | None = Field(
        default=None,
        description="`systemd`: the mount unit of the path, and its automount unit if it has one; `fstab`: mount(8) "
        "and umount(8) by the mount point; `gpfs`: IBM Storage Scale; `lustre`; `beegfs`; `command`: the lists `mount` "
        "and `unmount`. Left out: `command` with these lists, else `fstab`.",
    )
    source: str | None = Field(default=None, description="Glob that the mounted source must match.")
    fstype: str | None = Field(default=None, description="Glob that the filesystem type must match.")
    options: tuple[str, ...] = Field(default=(), description="Options that must be set; `!option` must not be.")
    transport: MatchString | None = Field(
        default=None,
        description="Glob that the way to its servers must match: NFS `tcp` or `rdma`; Lustre the LNet type of all "
        "connections, as in `o2ib`; BeeGFS `RDMA` or `TCP`.",
    )
    probe: Literal["none", "read", "write"] = Field(
        default="read",
        description="What must succeed before it counts as mounted: `read` its directory, or `write` a small file, "
        "sync it, read it back and remove it; done by a helper process that may hang.",
    )
    probe_path: str | None = Field(
        default=None,
        pattern=r"^/",
        description="Directory to probe, where root may not write at the top; none: `path`.",
    )
    busy: Literal["wait", "hold", "lazy", "skip"] = Field(
        default="hold",
        description="What happens when it is still in use after `unmount_deadline_s`. `hold`: the cycle is held, and "
        "names who uses it. `wait`: it is waited for until `deadlines.unmounting`. `lazy`: `umount --lazy`, only in a "
        "recipe that reboots (else as `hold`): what still uses it goes on using it, unseen, and only the reboot ends "
        "that. `skip`: the cycle goes on with it mounted. Nothing is ever forced, and no process is killed.",
    )
    mount: tuple[Argv, ...] = Field(default=(), description="`command`: lists of words that mount it; no shell.")
    unmount: tuple[Argv, ...] = Field(default=(), description="`command`: lists of words that unmount it.")
    device: str = Field(
        default="",
        description="`gpfs`: the filesystem's name, default: the mount point; `lustre`: what to mount, as in "
        "`10.0.0.1@o2ib:10.0.0.2@o2ib:/scratch`, default: what /etc/fstab says.",
    )
    mount_options: tuple[str, ...] = Field(default=(), description="`lustre`: options to mount `device` with.")
    unit: str = Field(
        default="",
        description="`systemd`: the mount unit, default: the path's; `beegfs`: the client's service, default: "
        "`beegfs-client.service`; `lustre`: LNet's service, which is started before the mount, default: none.",
    )
    unload: bool | None = Field(
        default=None,
        description="Stop the client once nothing of its kind is mounted: `gpfs` mmshutdown, default: true; `lustre` "
        "stops `unit`, or else runs lustre_rmmod, default: false; `beegfs`: the kernel module must be gone, default: "
        "false.",
    )
    program_dir: str = Field(default="/usr/lpp/mmfs/bin", pattern=r"^/", description="`gpfs`: where its commands are.")
    deadline_s: float | None = Field(default=None, gt=0, description="Both deadlines that follow, where not set.")
    mount_deadline_s: float | None = Field(
        default=None, gt=0, description=f"To be mounted and proven; default: {_MOUNT_S:g}."
    )
    unmount_deadline_s: float | None = Field(
        default=None, gt=0, description=f"To be unmounted, however busy it is; default: {_UNMOUNT_S:g}."
    )

    @model_validator(mode="after")
    def _keys_fit_the_driver(self) -> Self:
        if self.kind == "command" and not (self.mount and self.unmount):
            raise ValueError(
                f"storage {self.name!r}: mount and unmount belong to driver = 'command', which needs both mount and "
                "unmount"
            )
        if self.kind != "command" and (self.mount or self.unmount):
            raise ValueError(f"storage {self.name!r}: mount and unmount belong to driver = 'command'")
        for key, drivers in _BELONGS.items():
            if key in self.model_fields_set and self.kind not in drivers:
                which = " or ".join(repr(driver) for driver in sorted(drivers))
                raise ValueError(f"storage {self.name!r}: {key} belongs to driver = {which}, not to {self.kind!r}")
        if self.mount_options and not self.device:
            raise ValueError(f"storage {self.name!r}: mount_options needs device; without it /etc/fstab has them")
        return self

    @model_validator(mode="after")
    def _driver_can_do_it(self) -> Self:
        if self.kind in {"gpfs", "beegfs"} and self.busy == "lazy":
            raise ValueError(f"storage {self.name!r}: busy = 'lazy' cannot be: the whole client of {self.kind} stops")
        if self.kind == "gpfs" and self.transport is not None:
            raise ValueError(f"storage {self.name!r}: a gpfs mount tells no transport")
        if self.probe_path is not None and not f"{self.probe_path}/".startswith(f"{self.path.rstrip('/')}/"):
            raise ValueError(f"storage {self.name!r}: probe_path is not below {self.path}")
        return self

    @property
    def kind(self) -> Driver:
        """The driver, where none is named the one that is meant."""
        return self.driver or ("command" if self.mount or self.unmount else "fstab")

    @property
    def unloads(self) -> bool:
        """Whether its client is stopped, too."""
        return self.kind == "gpfs" if self.unload is None else self.unload

    @property
    def mount_s(self) -> float:
        """Seconds until it must be mounted and proven."""
        return self.mount_deadline_s or self.deadline_s or _MOUNT_S

    @property
    def unmount_s(self) -> float:
        """Seconds until it must be unmounted."""
        return self.unmount_deadline_s or self.deadline_s or _UNMOUNT_S

    @property
    def limits(self) -> MountLimits:
        """What the mount table must say of it."""
        return MountLimits(
            path=self.path, source=self.source, fstype=self.fstype, options=self.options, options_match=None
        )
