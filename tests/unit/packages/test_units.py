# SPDX-License-Identifier: Apache-2.0
"""The units as systemd itself reads them: nothing unknown in them, and the coordinator as locked in as the docs say."""

import shutil
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[3]
SYSTEMD = TOP / "systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))
ANALYZE = shutil.which("systemd-analyze")
# Where the units look for programs and for units that are not ours.
PROGRAMS = ("usr/bin/refloat", "usr/sbin/refloat-agent", "usr/sbin/refloat-coordinator", "usr/bin/kill")
OTHERS = {
    **dict.fromkeys(("basic.target", "local-fs.target", "multi-user.target", "network-online.target"), "[Unit]\n"),
    **dict.fromkeys(("shutdown.target", "sysinit.target"), "[Unit]\n"),
    "slurmd.service": "[Service]\nExecStart=/usr/bin/refloat\n",
}
MOST_EXPOSED = "20"  # tenths: what docs/packages.md promises is 2.0 or less
# Each would make a mount namespace: the agent's mounts would not be the node's, and the gate could hang in making one.
NAMESPACES = (
    *("ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateMounts", "PrivateDevices", "ProtectProc", "ProcSubset"),
    *("ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ReadWritePaths"),
)

needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root in which everything that the units name is there."""
    folder = tmp_path / "usr/lib/systemd/system"
    shutil.copytree(SYSTEMD, folder)
    for name, text in OTHERS.items():
        (folder / name).write_text(text)
    for name in PROGRAMS:
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    return tmp_path


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(ANALYZE), *words], capture_output=True, text=True, check=False)


def verified(root: Path, name: str) -> str:
    """What systemd finds wrong with a unit."""
    unit = root / "usr/lib/systemd/system" / name
    return analyze("verify", "--man=no", f"--root={root}", str(unit)).stderr


def settings(unit: Path) -> list[str]:
    return [
        line.partition("=")[0] for line in unit.read_text().splitlines() if "=" in line and not line.startswith("#")
    ]


@needs_systemd
@pytest.mark.parametrize("name", [*(unit.name for unit in UNITS), "slurmd.service"])
def test_systemd_finds_nothing_wrong_with_a_unit(root: Path, name: str) -> None:
    assert verified(root, name) == ""


@needs_systemd
def test_systemd_would_find_a_mistyped_setting(root: Path) -> None:
    unit = root / "usr/lib/systemd/system/refloat-agent.service"
    unit.write_text(unit.read_text().replace("WatchdogSec=", "WatchdogSecs="))

    assert "WatchdogSecs" in verified(root, unit.name)


@needs_systemd
def test_the_coordinator_is_exposed_as_little_as_promised() -> None:
    unit = SYSTEMD / "refloat-coordinator.service"
    judged = analyze("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}", str(unit))

    assert judged.returncode == 0, judged.stdout


@pytest.mark.parametrize("name", ["refloat-agent.service", "refloat-boot-gate.service"])
def test_no_mount_namespace_hides_the_mounts_of_the_node(name: str) -> None:
    assert not set(settings(SYSTEMD / name)) & set(NAMESPACES)


def test_an_update_of_the_agent_kills_nothing_that_its_mounts_have_started() -> None:
    lines = (SYSTEMD / "refloat-agent.service").read_text().splitlines()

    assert {"KillMode=process", "Restart=always", "StartLimitIntervalSec=0"} <= set(lines)
