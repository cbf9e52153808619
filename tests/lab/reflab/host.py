# SPDX-License-Identifier: Apache-2.0
"""Whether this host can run the lab, and the packages that make it able to."""

import os
import shutil
from pathlib import Path

from reflab import command
from reflab.errors import Unavailable

PACKAGE_OF = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "journalctl": "systemd",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "chroot": "coreutils",
    "mount": "mount",
}


def obstacle() -> str | None:
    """Return one sentence that says why this host cannot run the lab even after `prepare`, or None."""
    if os.geteuid() != 0:
        return "the lab needs root (namespaces, mounts, debootstrap)"
    if _missing() and not _is_debian_like():
        tools = ", ".join(_missing())
        return f"the lab needs {tools}, and can install them only on a Debian-like host"
    if not Path("/proc/self/ns/time").exists():
        return "the lab needs a kernel with time namespaces (CONFIG_TIME_NS): slurmctld sees reboots by uptime"
    if cgroup2() is None:
        return "the lab needs a writable cgroup2 mount"
    return None


# One systemd takes about seven; the usual 128 for all of root's end at some fifteen containers.
INOTIFY_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_INSTANCES_NEEDED = 8192


def prepare() -> None:
    """Install the packages and raise the one limit that the lab needs; raise `Unavailable` where that cannot help."""
    why = obstacle()
    if why:
        raise Unavailable(why)
    # What the lab makes stands in roots of containers, whose daemons refuse what a group may write.
    os.umask(0o022)
    _install_missing()
    if int(INOTIFY_INSTANCES.read_text()) < INOTIFY_INSTANCES_NEEDED:
        INOTIFY_INSTANCES.write_text(str(INOTIFY_INSTANCES_NEEDED))
        command.say(f"raised fs.inotify.max_user_instances to {INOTIFY_INSTANCES_NEEDED}, until this host reboots")


def cgroup2() -> Path | None:
    """Return where the host has a writable cgroup2 hierarchy (pure or beside v1), or None."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _source, target, kind, options, *_rest = line.split()
        if kind == "cgroup2" and "rw" in options.split(","):
            return Path(target)
    return None


def _install_missing() -> None:
    wanted = sorted({PACKAGE_OF[tool] for tool in _missing()})
    if not wanted:
        return
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "--no-install-recommends", *wanted]
    with command.step(f"install on this host: {' '.join(wanted)}"):
        command.run(["apt-get", "update", "-q"], timeout_s=300, env=env)
        command.run(install, timeout_s=600, env=env)


def _missing() -> list[str]:
    return [tool for tool in PACKAGE_OF if shutil.which(tool) is None]


def _is_debian_like() -> bool:
    return Path("/etc/debian_version").exists() and shutil.which("apt-get") is not None
