# SPDX-License-Identifier: Apache-2.0
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, field_validator

from refloat_contract.errors import Misconfigured
from refloat_service.mqtt import MqttSettings
from refloat_service.settings import Settings, load, reference


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Fstab(Settings):
    """A line of fstab."""

    driver: Literal["fstab"] = "fstab"
    path: Path


class Gpfs(Settings):
    """A file system of Storage Scale."""

    driver: Literal["gpfs"]
    device: str


class Recipe(Settings):
    steps: tuple[str, ...] = ()


class Daemon(Settings):
    """What a daemon wants."""

    cluster: str = Field("main", description="name of the cluster")
    period_s: float = Field(5.0, gt=0, description="seconds between looks")
    colour: Colour = Colour.RED
    words: tuple[str, ...] = ()
    mqtt: MqttSettings = MqttSettings()
    storage: tuple[Annotated[Fstab | Gpfs, Field(discriminator="driver")], ...] = ()
    recipes: dict[str, Recipe] = Field(default_factory=dict)

    @field_validator("cluster")
    @classmethod
    def _one_word(cls, value: str) -> str:
        if " " in value:
            raise ValueError(f"{value!r} is not one word")
        if value == "forbidden":
            raise Misconfigured("cluster: this name is forbidden")
        return value


def read(tmp_path: Path, text: str, **env: str) -> Daemon:
    path = tmp_path / "d.toml"
    path.write_text(text)
    return load(Daemon, path, env_prefix="REFLOAT_TEST", env=env)


def complaint(tmp_path: Path, text: str, **env: str) -> str:
    with pytest.raises(Misconfigured) as caught:
        read(tmp_path, text, **env)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_without_file_and_environment_there_are_the_defaults() -> None:
    assert load(Daemon, None, env_prefix="X", env={}) == Daemon()


def test_the_file_is_read_and_the_environment_goes_over_it(tmp_path: Path) -> None:
    daemon = read(
        tmp_path,
        'cluster = "a"\nperiod_s = 3\n[mqtt]\nhost = "filehost"\n',
        REFLOAT_TEST__CLUSTER="b",
        REFLOAT_TEST__MQTT__PORT="8883",
        REFLOAT_TEST__MQTT__TLS="true",
        REFLOAT_TEST__WORDS='["x", "y"]',
        REFLOAT_TEST_OTHER="not a setting",
    )

    assert (daemon.cluster, daemon.period_s, daemon.words) == ("b", 3.0, ("x", "y"))
    assert (daemon.mqtt.host, daemon.mqtt.port, daemon.mqtt.tls) == ("filehost", 8883, True)


@pytest.mark.parametrize("value", ["12", "nan", "2024-01-01", "true", "1\nport = 2"])
def test_text_in_the_environment_stays_text_whatever_it_looks_like(tmp_path: Path, value: str) -> None:
    assert read(tmp_path, "", REFLOAT_TEST__CLUSTER=value.replace(" ", "_")).cluster == value.replace(" ", "_")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[mqtt]\nhost = "x"\nprot = 1\n',
            "d.toml:3: mqtt.prot: unknown key; did you mean 'port'? (known here: ca_file, cert_file, host, keep",
        ),
        ("period_s = -1\n", "d.toml:1: period_s: must be greater than 0, not -1"),
        ('period_s = "fast"\n', "d.toml:1: period_s: must be a number, not 'fast'"),
        ('# a\ncluster = "a b"\n', "d.toml:2: cluster: 'a b' is not one word"),
        ('cluster = "forbidden"\n', "d.toml: cluster: this name is forbidden"),
        ('colour = "green"\n', "d.toml:1: colour: must be 'red' or 'blue', not 'green'"),
        ("mqtt = 5\n", "d.toml:1: mqtt: must be a table, not 5"),
        ("mqtt.port = 0\n", "d.toml:1: mqtt.port: must be greater than or equal to 1, not 0"),
        ("cluster = \n", "d.toml: not valid TOML: Invalid value (at line 1, column 11)"),
        (
            '[[storage]]\ndriver = "gpfs"\ndevice = "a"\n[[storage]]\ndriver = "gpfs"\ndevice = "b"\ndevise = "c"\n',
            "d.toml:7: storage[1].devise: unknown key; did you mean 'device'? (known here: device, driver)",
        ),
        ('\n[[storage]]\ndriver = "gpfs"\n', "d.toml:2: storage[0].device: must be set"),
        ("[recipes.mine]\nstepz = []\n", "d.toml:2: recipes.mine.stepz: unknown key; did you mean 'steps'?"),
        ("[mqtt]\npassword_file = 3\n", "d.toml:2: mqtt.password_file: must be a path in quotes"),
        ('[mqtt]\nca_file = "x"\n', "d.toml:1: mqtt: ca_file, cert_file and key_file need tls = true"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    assert complaint(tmp_path, text).startswith(said)


def test_every_problem_has_its_line(tmp_path: Path) -> None:
    lines = complaint(tmp_path, 'x = 1\nperiod_s = 0\ncolour = "green"\n').splitlines()

    assert [line.split(": ")[0] for line in sorted(lines)] == ["d.toml:1", "d.toml:2", "d.toml:3"]


def test_a_wrong_variable_is_named_itself(tmp_path: Path) -> None:
    assert complaint(tmp_path, "", REFLOAT_TEST__MQTT__PRT="1").startswith(
        "REFLOAT_TEST__MQTT__PRT: mqtt.prt: unknown key; did you mean 'port'?"
    )


def test_a_variable_below_a_plain_value_is_refused(tmp_path: Path) -> None:
    said = complaint(tmp_path, "", REFLOAT_TEST__CLUSTER__NAME="x", REFLOAT_TEST__CLUSTER="y")

    assert said == "REFLOAT_TEST__CLUSTER__NAME: cluster is not a table, so nothing in it can be set"


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"cannot read .*none\.toml: No such file or directory"):
        load(Daemon, tmp_path / "none.toml", env_prefix="X", env={})


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.toml").write_bytes(b"x = '\xff'")

    with pytest.raises(Misconfigured, match=r"not UTF-8 text \(byte 5\)"):
        load(Daemon, tmp_path / "d.toml", env_prefix="X", env={})


def test_the_reference_has_each_key_with_type_default_and_meaning() -> None:
    text = reference(Daemon, "The daemon")

    assert text.startswith("# The daemon\n\nWhat a daemon wants.\n\n| key |")
    assert "| `period_s` | number, > 0 | `5.0` | seconds between looks |" in text
    assert '| `colour` | `"red"`, `"blue"` | `"red"` |  |' in text
    assert "| `password_file` | path | none |" in text
    assert "## `[mqtt]`" in text
    assert "## `[[storage]]`, any number of them (Gpfs)" in text
    assert "| `device` | text | must be set |  |" in text
    assert "## `[recipes.NAME]`, any number of them" in text
