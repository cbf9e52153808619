# SPDX-License-Identifier: Apache-2.0
"""The packages on nodes that never saw refloat: install, work, update and go back in the middle of a cycle, erase."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from reflab import app, host, image
from reflab.cluster import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

NEWER = "0.1.1"
OWN_LINE = "# As the site has it."
RPMS = ("refloat-common", "refloat-agent", "refloat-nhc")
QUICK_START = Path(__file__).parents[2] / "docs" / "quick-start.md"
STEP = re.compile(r"<!-- run: (\w+) -->\n```sh\n(.*?)```", re.DOTALL)
# Beside what a package's own folders hold, only what a system looks for in places of its own.
OWN = ("/usr/lib/refloat", "/etc/refloat", "/var/lib/refloat", "/run/refloat", "/usr/share/doc/refloat-")
SYSTEMS = (
    *("/usr/lib/systemd/system/refloat-", "/usr/lib/systemd/system-preset/90-refloat-", "/usr/lib/sysusers.d/refloat"),
    *("/usr/lib/tmpfiles.d/refloat.conf", "/usr/share/man/", "/usr/share/bash-completion/completions/refloat"),
    *(
        "/usr/share/zsh",
        "/usr/share/fish",
        "/usr/share/licenses/refloat-common",
        "/usr/share/lintian/overrides/refloat-",
    ),
)
COMMANDS = {"/usr/bin/refloat", "/usr/sbin/refloat-agent", "/usr/sbin/refloat-coordinator", "/usr/sbin/nhc"}
# What systemd, Slurm and dpkg note while a unit is installed, enabled and started, and what the lab does.
OTHERS = (
    *(
        "/etc/systemd/system/multi-user.target.wants",
        "/run/systemd",
        "/run/credentials",
        "/var/lib/systemd",
        "/run/udev",
    ),
    *("/var/lib/dpkg", "/var/log", "/var/cache", "/var/lib/slurm", "/run/slurmd.pid", "/run/user", "/run/log"),
    *("/run/munge", "/run/dbus", "/run/mount", "/var/lib/munge", "/work", "/usr/local/sbin/mount-work"),
    *("/tmp/.", "/tmp/systemd-private-", "/var/tmp/systemd-private-"),
)
AGENT_TOML = """\
mode = "act"
retry_s = 1
[slurm]
poll_s = 1
[[storage]]
name = "work"
path = "/work"
driver = "command"
mount = [["/usr/local/sbin/mount-work"]]
unmount = [["umount", "/work"]]
"""
# As a FUSE filesystem does: mounted, and served by a process that nobody waits for.
MOUNT = """\
#!/bin/sh
mount -t tmpfs work /work
setsid --fork sleep 4711 </dev/null >/dev/null 2>&1
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Lab]:
    """Two nodes without refloat; n1 keeps its disk over reboots, n2 has the rpm command."""
    why = host.obstacle()
    if why:
        pytest.skip(why)
    lab = Lab(nodes=2)
    lab.places = replace(lab.places, name="packages")
    lab.up()
    try:
        (lab.node("n1").folder / "keep_disk").touch()
        yield lab
    finally:
        lab.down()


def packages(lab: Lab, node: str, form: app.Form, version: str | None = None) -> str:
    """Build packages of the checkout, as of a version, and put them where the node finds them."""
    built = app.build(lab.places, image.ensure(lab.places), form, version)
    folder = lab.node(node).share / f"{form}-{version or 'now'}"
    shutil.copytree(built, folder, dirs_exist_ok=True)
    return f"/lab/{folder.name}"


def install(lab: Lab, node: str, folder: str) -> None:
    """Install or update with dpkg, as a site without a repository would; its own configuration is kept."""
    lab.exec(node, ["sh", "-c", f"exec dpkg --install --force-unsafe-io --force-confold {folder}/*.deb"], timeout=120)


def paths(lab: Lab, node: str) -> set[str]:
    """List what is there, on the root filesystem and in /run."""
    return set(lab.exec(node, ["find", "/", "/run", "-xdev"]).stdout.splitlines())


def is_expected(path: str) -> bool:
    """Whether a package of refloat may bring or write this."""
    return path in COMMANDS or path.startswith((*OWN, *SYSTEMS))


def report(lab: Lab, node: str) -> dict[str, Any]:
    """What the agent says of its node; nothing while it is being restarted."""
    done = lab.exec(node, ["refloat", "status", "--json"], check=False)
    return dict(json.loads(done.stdout)["report"] or {}) if done.returncode in {0, 1} else {}


def is_draining_with(lab: Lab, node: str, version: str) -> bool:
    """Whether an agent of this version waits for the node's jobs."""
    said = report(lab, node)
    return (said.get("version"), said.get("phase")) == (version, "DRAINING")


def _is_agent_of(lab: Lab, node: str, version: str) -> bool:
    return report(lab, node).get("version") == version


def is_active(lab: Lab, node: str, unit: str) -> bool:
    """Whether systemd runs it."""
    return lab.exec(node, ["systemctl", "is-active", unit], check=False).stdout.strip() == "active"


def is_enabled(lab: Lab, node: str, unit: str) -> bool:
    """Whether it starts at boot."""
    return lab.exec(node, ["systemctl", "is-enabled", unit], check=False).stdout.strip() == "enabled"


def test_what_is_installed_observes_and_writes_nowhere_but_in_its_own_folders(site: Lab) -> None:
    before = paths(site, "n1")
    install(site, "n1", packages(site, "n1", app.Form.DEB))
    site.wait(lambda: report(site, "n1").get("observe_only") is True, 30, "an agent that observes")

    assert is_enabled(site, "n1", "refloat-agent")
    assert not is_enabled(site, "n1", "refloat-boot-gate")
    assert not is_enabled(site, "n1", "refloat-coordinator")
    brought = site.exec(
        "n1", ["sh", "-c", "dpkg --listfiles $(dpkg-query -W -f '${Package} ' 'refloat-*')"]
    ).stdout.split()
    assert {path for path in brought if path not in {*before, "/."} and not is_expected(path)} == set()

    _act(site, "n1")
    site.scontrol("update", "nodename=n1", "state=drain", "reason=reboot")
    site.wait(lambda: site.reboots("n1") == 1, 60, "the reboot")
    site.wait_state("n1", "IDLE", timeout=60)

    there = {path for path in paths(site, "n1") - before if not is_expected(path)}
    assert {path for path in there if not path.startswith(OTHERS)} == set()


def test_a_cycle_survives_an_update_and_a_downgrade_of_its_agent(site: Lab) -> None:
    now, newer = packages(site, "n1", app.Form.DEB), packages(site, "n1", app.Form.DEB, NEWER)
    reboots, version = site.reboots("n1"), report(site, "n1")["version"]
    server = site.exec("n1", ["pgrep", "-f", "sleep 4711"]).stdout
    job = site.submit("n1", "sleep 300")
    site.wait(lambda: site.job_state(job) == "RUNNING", 30, "the job running")
    site.scontrol("update", "nodename=n1", "state=drain", "reason=reboot")
    site.wait(lambda: report(site, "n1").get("phase") == "DRAINING", 30, "the cycle")
    cycle = report(site, "n1")["cycle"]["id"]

    for folder, wanted in ((newer, NEWER), (now, version), (newer, NEWER)):
        install(site, "n1", folder)
        site.wait(partial(is_draining_with, site, "n1", wanted), 30, f"the cycle taken over by {wanted}")
        assert report(site, "n1")["cycle"]["id"] == cycle
        assert site.job_state(job) == "RUNNING"
        assert site.exec("n1", ["pgrep", "-f", "sleep 4711"]).stdout == server

    site.exec("n1", ["scancel", str(job)])
    site.wait(lambda: site.reboots("n1") == reboots + 1, 60, "the reboot")
    site.wait_state("n1", "IDLE", timeout=60)
    site.wait(lambda: (report(site, "n1").get("last_cycle") or {}).get("id") == cycle, 30, "the end of the cycle")


def test_what_is_removed_leaves_its_state_and_what_is_purged_leaves_nothing(site: Lab) -> None:
    names = site.exec("n1", ["dpkg-query", "-W", "-f", "${Package} ", "refloat-*"]).stdout.split()
    assert site.exec("n1", ["cat", "/etc/refloat/agent.toml"]).stdout == AGENT_TOML
    site.exec("n1", ["dpkg", "--remove", *names])

    left = {path for path in paths(site, "n1") if "refloat" in path and not path.startswith(("/var/lib/dpkg", "/run"))}
    assert not is_active(site, "n1", "refloat-agent")
    assert "/var/lib/refloat/agent/journal.json" in left
    assert {path for path in left if not path.startswith(("/etc/refloat", "/var/lib/refloat"))} == set()

    site.exec("n1", ["dpkg", "--purge", *names])
    left = {path for path in paths(site, "n1") if "refloat" in path and not path.startswith(("/var/lib/dpkg", "/run"))}
    assert left == set()


def test_an_rpm_brings_up_the_agent(site: Lab) -> None:
    _give_rpm(site, "n2")
    _rpm(site, "--install", packages(site, "n2", app.Form.RPM))
    assert is_enabled(site, "n2", "refloat-agent")
    assert not is_enabled(site, "n2", "refloat-boot-gate")
    listed = site.exec("n2", ["rpm", "--query", "--list", *RPMS]).stdout
    assert {path for path in listed.splitlines() if not is_expected(path)} == set()
    assert site.exec("n2", ["rpm", "--verify", "--nodeps", *RPMS]).stdout == ""

    site.exec("n2", ["systemctl", "start", "refloat-agent"])
    site.wait(lambda: report(site, "n2").get("observe_only") is True, 30, "an agent that observes")
    assert site.exec("n2", ["nhc", "-h"]).returncode == 0


def test_an_rpm_is_updated_and_taken_back_and_what_the_site_has_changed_stays(site: Lab) -> None:
    installed, version = paths(site, "n2"), report(site, "n2")["version"]
    newer, now = packages(site, "n2", app.Form.RPM, NEWER), packages(site, "n2", app.Form.RPM)
    site.exec("n2", ["sh", "-c", f"echo '{OWN_LINE}' >>/etc/refloat/agent.toml && systemctl disable refloat-agent"])

    for wanted, words, folder in ((NEWER, "--upgrade", newer), (version, "--upgrade --oldpackage", now)):
        before = _main_pid(site, "n2")
        _rpm(site, words, folder)
        site.wait(partial(_is_agent_of, site, "n2", wanted), 30, f"an agent of {wanted}")
        assert _main_pid(site, "n2") not in {before, "0"}
        assert OWN_LINE in site.exec("n2", ["cat", "/etc/refloat/agent.toml"]).stdout
        assert not is_enabled(site, "n2", "refloat-agent")
        assert not is_active(site, "n2", "refloat-boot-gate")
        changed = site.exec("n2", ["rpm", "--verify", "--nodeps", *RPMS], check=False).stdout.splitlines()
        assert [line.split()[-1] for line in changed] == ["/etc/refloat/agent.toml"]

    assert {path for path in paths(site, "n2") ^ installed if path.startswith("/usr")} == set()


def test_an_rpm_that_is_erased_leaves_its_state_and_what_the_site_has_changed(site: Lab) -> None:
    site.exec("n2", ["rpm", "--erase", "--nodeps", *RPMS])

    left = {path for path in paths(site, "n2") if "refloat" in path and not path.startswith(("/var/lib/rpm", "/run"))}
    state = {path for path in left if path.startswith("/var/lib/refloat")}
    assert not is_active(site, "n2", "refloat-agent")
    assert left - state == {"/etc/refloat", "/etc/refloat/agent.toml.rpmnew", "/etc/refloat/agent.toml.rpmsave"}
    assert "/var/lib/refloat/agent/journal.json" in state


def test_the_quick_start_takes_a_node_from_nothing_to_its_first_cycle(site: Lab) -> None:
    """Its own commands, word for word, on a node that has nothing of refloat (any more)."""
    steps = dict(STEP.findall(QUICK_START.read_text()))
    assert list(steps) == ["install", "look", "check", "plan", "act", "cycle", "back"]
    folder, reboots = packages(site, "n1", app.Form.DEB), site.reboots("n1")

    def follow(step: str) -> str:
        return site.exec("n1", ["sh", "-ec", f"cd {folder}\n{steps[step]}"], timeout=120).stdout

    follow("install")
    site.wait(lambda: report(site, "n1").get("observe_only") is True, 30, "an agent that observes")
    assert "IN_SERVICE" in follow("look")
    checked = follow("check")
    assert all(name in checked for name in ("munge", "slurmd"))
    plan = follow("plan")
    assert "nothing of this would be done" in plan
    assert "resume, once" in plan
    follow("act")
    site.wait(lambda: report(site, "n1").get("observe_only") is False, 30, "an agent that acts")
    follow("cycle")
    site.wait(lambda: site.reboots("n1") == reboots + 1, 60, "the reboot")
    site.wait_state("n1", "IDLE", timeout=60)
    assert "State=IDLE " in follow("back")
    site.wait(lambda: (report(site, "n1").get("last_cycle") or {}).get("outcome") == "done", 30, "the cycle done")


def _act(lab: Lab, node: str) -> None:
    """Configure what a site configures, and restart the agent with it."""
    lab.node(node).put("/usr/local/sbin/mount-work", MOUNT, mode=0o755)
    lab.node(node).put("/etc/refloat/agent.toml", AGENT_TOML)
    lab.exec(node, ["mkdir", "-p", "/work"])
    lab.exec(node, ["systemctl", "restart", "refloat-agent"])


def _rpm(lab: Lab, words: str, folder: str) -> None:
    """Install or update with rpm alone; Debian's packages are not in its database."""
    files = " ".join(f"{folder}/{name}-[0-9]*.rpm" for name in RPMS)
    lab.exec("n2", ["sh", "-c", f"exec rpm {words} --nodeps {files}"], timeout=120)


def _main_pid(lab: Lab, node: str) -> str:
    return lab.exec(node, ["systemctl", "show", "--property=MainPID", "--value", "refloat-agent"]).stdout.strip()


def _give_rpm(lab: Lab, name: str) -> None:
    """Boot the node from a root that has the rpm command."""
    node, tree = lab.node(name), image.ensure(lab.places)
    layers = [Path(path) for path in node.layers()]
    node.set_layers([*layers[:-1], app.builder(lab.places, tree), layers[-1]])
    before = lab.boot_id(name)
    lab.exec(name, ["systemctl", "reboot"])
    lab.wait_booted(name, before, timeout=60)
