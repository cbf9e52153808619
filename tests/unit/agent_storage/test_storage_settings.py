# SPDX-License-Identifier: Apache-2.0
"""The `[[storage]]` tables."""

import itertools
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import ValidationError

from refloat_agent.storage import Storage

EXAMPLE: Final = Path(__file__).parents[3] / "packaging/examples/agent.toml"


def _storage(**keys: Any) -> Storage:
    return Storage.model_validate({"name": "s", "path": "/s", **keys})


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ({}, "fstab"),
        ({"mount": [["m"]], "unmount": [["u"]]}, "command"),
        ({"driver": "command", "mount": [["m"]], "unmount": [["u"]]}, "command"),
        ({"driver": "systemd"}, "systemd"),
        ({"driver": "lustre", "device": "1@tcp:/s", "mount_options": ["flock"], "busy": "lazy"}, "lustre"),
    ],
)
def test_the_driver_is_the_one_named_or_the_one_meant(keys: dict[str, Any], kind: str) -> None:
    assert _storage(**keys).kind == kind


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"driver": "gpfs", "mount": [["m"]]}, "belong to driver = 'command'"),
        ({"mount": [["m"]]}, "needs both mount and unmount"),
        ({"device": "gpfs0"}, "device belongs to driver = 'gpfs' or 'lustre', not to 'fstab'"),
        ({"driver": "fstab", "unit": "s.mount"}, "unit belongs to driver"),
        ({"driver": "systemd", "unload": True}, "unload belongs to driver"),
        ({"driver": "lustre", "program_dir": "/bin"}, "program_dir belongs to driver"),
        ({"driver": "lustre", "mount_options": ["flock"]}, "mount_options needs device"),
        ({"driver": "gpfs", "busy": "lazy"}, "the whole client of gpfs stops"),
        ({"driver": "beegfs", "busy": "lazy"}, "the whole client of beegfs stops"),
        ({"driver": "gpfs", "transport": "rdma"}, "tells no transport"),
        ({"probe_path": "/scratch/x"}, "probe_path is not below /s"),
        ({"busy": "force"}, "busy"),
    ],
)
def test_keys_that_do_nothing_are_refused(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        _storage(**keys)


@pytest.mark.parametrize(
    ("keys", "mount_s", "unmount_s"),
    [
        ({}, 300, 120),
        ({"deadline_s": 60}, 60, 60),
        ({"deadline_s": 60, "mount_deadline_s": 600}, 600, 60),
        ({"unmount_deadline_s": 30}, 300, 30),
    ],
)
def test_each_way_has_its_deadline(keys: dict[str, Any], mount_s: float, unmount_s: float) -> None:
    one = _storage(**keys)

    assert (one.mount_s, one.unmount_s) == (mount_s, unmount_s)


def test_the_commented_examples_of_the_drivers_are_valid() -> None:
    lines = EXAMPLE.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("# [[storage]]"))
    block = list(itertools.takewhile(lambda line: line.startswith("#"), lines[first:]))
    tables = tomllib.loads("\n".join(line.removeprefix("#").removeprefix(" ") for line in block))["storage"]

    assert [Storage.model_validate(table).kind for table in tables] == ["gpfs", "lustre", "beegfs", "systemd"]


def test_the_client_of_gpfs_alone_is_stopped_unless_told_otherwise() -> None:
    assert _storage(driver="gpfs").unloads
    assert not _storage(driver="gpfs", unload=False).unloads
    assert not _storage(driver="lustre").unloads
    assert _storage(driver="beegfs", unload=True).unloads
