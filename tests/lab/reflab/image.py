# SPDX-License-Identifier: Apache-2.0
"""The base images: one debootstrapped tree per release, cached by a hash of what goes in."""

import os
import shutil
import subprocess
from pathlib import Path

from reflab import chroot, command, host
from reflab.command import run, run_logged
from reflab.places import Places, digest, locked

# Raise it when a step below changes: it is part of the cache key.
RECIPE = 3

BASE_PACKAGES = ("ca-certificates", "systemd", "systemd-sysv", "dbus", "iproute2", "procps")
PACKAGES = (
    *("slurmctld", "slurmd", "slurm-client", "munge"),
    *("python3", "python3-venv", "python3-systemd"),
    *("mosquitto", "mosquitto-clients", "influxdb", "influxdb-client"),
    *("psmisc", "curl", "fuse3", "kmod", "util-linux-extra"),
)
# Started by role at boot, not by their own presence.
BY_ROLE = ("slurmd", "slurmctld", "mosquitto", "influxdb")
ALWAYS = ("munge",)
# What a container does not need, and what would make it boot slower or talk to the outside.
# systemd-logind stays: without it `systemctl reboot` reports an error.
MASKED = (
    *("getty.target", "console-getty.service", "systemd-udevd.service", "systemd-udev-trigger.service"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service", "systemd-modules-load.service", "ldconfig.service"),
    *("systemd-networkd.service", "systemd-networkd.socket", "systemd-resolved.service"),
    *("systemd-timesyncd.service", "systemd-firstboot.service"),
)
DEFAULT_MIRROR = "http://deb.debian.org/debian/"
WANTS = Path("etc/systemd/system/multi-user.target.wants")
APT = (
    *("apt-get", "-q", "-y"),
    # A mirror's snapshot of a testing release may be past its Valid-Until.
    *("-o", "Acquire::Check-Valid-Until=false"),
    *("-o", "Dpkg::Options::=--force-unsafe-io", "-o", "APT::Sandbox::User=root"),
)


def ensure(places: Places) -> Path:
    """Return the tree of the release's image, built if it is not cached (minutes)."""
    key = digest(str(RECIPE), places.release, *BASE_PACKAGES, *PACKAGES, *MASKED)
    root = places.cache / "images" / f"{places.release}-{key}"
    with locked(places.lock(f"image-{places.release}")):
        if not root.exists():
            host.prepare()
            with command.step(f"build the {places.release} image (once; some minutes)"):
                _build(places.release, root)
    return root


def _build(release: str, root: Path) -> None:
    """Build beside the final place and rename: a tree under its final name is whole."""
    part, log = root.with_name(f"{root.name}.part"), root.with_name(f"{root.name}.log")
    root.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(part, ignore_errors=True)
    log.unlink(missing_ok=True)
    with command.step(f"debootstrap {release}"):
        run_logged([*chroot.DIE_WITH_US, *_debootstrap(release, part)], log)
    _say_where_packages_come_from(part, release)
    with command.step(f"install slurm, mosquitto, influxdb and friends ({release})"):
        for words in (["update"], ["install", "--no-install-recommends", *PACKAGES], ["clean"]):
            job = chroot.Job(upper=str(part), argv=[*APT, *words], binds=ca_files(), env=apt_environment())
            chroot.run_in(job, log)
    _prepare(part, log)
    part.rename(root)


def _debootstrap(release: str, root: Path) -> list[str]:
    script = Path("/usr/share/debootstrap/scripts") / release
    # An older host's debootstrap does not know the name of a newer release; sid's script serves all.
    fallback = [] if script.exists() else [str(script.with_name("sid"))]
    include = f"--include={','.join(BASE_PACKAGES)}"
    return ["debootstrap", "--variant=minbase", include, release, str(root), mirror(), *fallback]


def mirror() -> str:
    """Return `LAB_MIRROR`, else the Debian mirror that this host's apt uses, else Debian's own."""
    if chosen := os.environ.get("LAB_MIRROR"):
        return chosen
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    found = [uri for uri in run(asked, check=False).stdout.split() if uri.endswith("/debian/")]
    return found[0] if found else DEFAULT_MIRROR


def _say_where_packages_come_from(root: Path, release: str) -> None:
    (root / "etc/apt/sources.list").write_text(f"deb {mirror()} {release} main\n")
    no_start = root / "usr/sbin/policy-rc.d"
    no_start.write_text("#!/bin/sh\nexit 101\n")
    no_start.chmod(0o755)


def ca_files() -> list[str]:
    """Name the files of this host that say whom to trust."""
    return ["/etc/ssl/certs/ca-certificates.crt"]


def apt_environment() -> dict[str, str]:
    """Say how apt reaches its mirror, and that it asks nothing."""
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return proxies | {"DEBIAN_FRONTEND": "noninteractive"}


def _prepare(root: Path, log: Path) -> None:
    """Turn a freshly installed tree into one that boots as a controller or as a node."""
    alice = ["useradd", "--create-home", "--uid", "1000", "--shell", "/bin/bash", "alice"]
    chroot.run_in(chroot.Job(upper=str(root), argv=alice), log)
    _share_a_munge_key(root)
    wants = root / WANTS
    wants.mkdir(parents=True, exist_ok=True)
    for unit in BY_ROLE:
        (wants / f"{unit}.service").unlink(missing_ok=True)
    for unit in ALWAYS:
        enable(root, f"{unit}.service")
    for unit in MASKED:
        place = root / "etc/systemd/system" / unit
        place.unlink(missing_ok=True)
        place.symlink_to("/dev/null")
    (root / "usr/sbin/policy-rc.d").unlink()
    for folder in ("etc/slurm", "lab", "gpfs/scratch", "scratch", "var/log/journal"):
        (root / folder).mkdir(parents=True, exist_ok=True)


def enable(root: Path, unit: str) -> bool:
    """Have `unit` started at boot if the tree has it; say whether it has."""
    for folder in ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"):
        if (root / folder / unit).exists():
            link = root / WANTS / unit
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(f"/{folder}/{unit}")
            return True
    return False


def _share_a_munge_key(root: Path) -> None:
    """One key for all containers, made here, so that it is there even where the package makes none."""
    key = root / "etc/munge/munge.key"
    key.unlink(missing_ok=True)
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    uid, gid = identity(root, "munge")
    os.chown(key, uid, gid)


def identity(root: Path, user: str) -> tuple[int, int]:
    """Return the uid and gid of a user of the tree, whatever they are on this host."""
    for line in (root / "etc/passwd").read_text().splitlines():
        name, _password, uid, gid, *_rest = line.split(":")
        if name == user:
            return int(uid), int(gid)
    message = f"{root}: no user {user}"
    raise LookupError(message)


def version_of_slurm(root: Path) -> tuple[int, int]:
    """Return the release of Slurm in the tree, such as (24, 11)."""
    argv = ["chroot", str(root), "slurmctld", "-V"]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    major, minor, *_rest = shown.split()[1].split(".")
    return int(major), int(minor)
