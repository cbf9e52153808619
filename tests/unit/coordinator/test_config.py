# SPDX-License-Identifier: Apache-2.0
import asyncio
import re
from pathlib import Path

import pytest

from refloat_contract.errors import Misconfigured
from refloat_coordinator import main as program
from refloat_coordinator.config import CoordinatorSettings
from refloat_coordinator.permits.boots import BootRule
from refloat_coordinator.permits.breaker import Trip
from refloat_coordinator.permits.budget import Amount, Limit
from refloat_coordinator.permits.rules import Rules
from refloat_coordinator.record.influx import InfluxV1, InfluxV2
from refloat_coordinator.record.receivers import make_writer
from refloat_service import settings

FULL = """
cluster = "summit"
state_dir = "/var/lib/refloat"
[limits]
max_unavailable = "5%"
[limits.groups.r3]
nodes = "n[7-9]"
max_unavailable = 2
[limits.partitions.gpu]
nodes = "g[1-4]"
max_unavailable = 1
[limits.partitions.big]
max_unavailable = "2%"
[limits.per_group.rack]
max_unavailable = 1
[limits.boot]
at_once = 100
per = "boot"
one_at_a_time = "rack"
[groups.rack]
pattern = 'r(?P<rack>\\d+)n\\d+'
[groups.boot]
sets = { b1 = "n[1-8]" }
[breaker]
percent = 20
[influx]
kind = "v1"
database = "slurmlog"
[[reasons.words]]
trigger = "lustre-restart"
progress = "lustre-restarting"
recipe = "lustre"
"""


def load(path: Path, text: str) -> CoordinatorSettings:
    path.write_text(text)
    return settings.load(CoordinatorSettings, path, env_prefix="REFLOAT_COORDINATOR", env={})


def test_limits_and_words_are_what_the_decisions_take(tmp_path: Path) -> None:
    loaded = load(tmp_path / "c.toml", FULL)
    word = loaded.reasons.dialect().word_for_recipe("lustre")

    assert loaded.limits.limits() == (
        Limit("cluster", Amount(5, percent=True)),
        Limit("partition gpu", Amount(1), frozenset({"g1", "g2", "g3", "g4"})),
        Limit("group r3", Amount(2), frozenset({"n7", "n8", "n9"})),
    )
    assert loaded.rules() == Rules(
        fixed=loaded.limits.limits(),
        per_group={"rack": Amount(1)},
        partitions={"big": Amount(2, percent=True)},
        boot=BootRule(Amount(100), "boot", "rack"),
        listed={"rack": {}, "boot": {"b1": frozenset(f"n{i}" for i in range(1, 9))}},
        patterns=(("rack", re.compile(r"r(?P<rack>\d+)n\d+")),),
    )
    assert loaded.breaker.trip() == Trip(20, 5, 600.0, 300.0)
    assert word is not None
    assert word.trigger == "lustre-restart"
    assert loaded.reasons.dialect().word("reboot") is not None


def test_every_setting_is_described() -> None:
    def undescribed(model: object, where: str = "") -> list[str]:
        fields = getattr(model, "model_fields", {})
        missing = [f"{where}{name}" for name, info in fields.items() if not info.description]
        return missing + [m for name, info in fields.items() for m in undescribed(info.annotation, f"{where}{name}.")]

    assert undescribed(CoordinatorSettings) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("clutser = 'x'", "cluster"),
        ("cluster = 'a/b'", "MQTT"),
        ("[limits]\nmax_unavailable = '0%'", "between 1% and 100%"),
        ("[limits.groups.r1]\nnodes = 'n[1-'\nmax_unavailable = 1", "cannot be read"),
        ("[limits.per_group.rak]\nmax_unavailable = 1", "limits.per_group.rak: no kind of group is called 'rak'"),
        ("[limits.boot]\nat_once = 1\nper = 'boot'", "limits.boot.per: no kind of group is called 'boot'"),
        ("[groups.partition]\nsets = { a = 'n1' }", "groups.partition: Slurm tells its partitions"),
        ("[groups.rack]\nlevel = 1", "says nothing of its nodes"),
        ("[groups.rack]\npattern = 'r('", "is no regular expression"),
        ("[groups.rack]\nsets = { a = 'n[1' }", "cannot be read"),
        ("[influx]\nkind = 'v2'", "also needs org, bucket, token_file"),
        ("[influx]\nurl = 'influx1:8086'", "url"),
        ("socket_mode = '0999'", "socket_mode"),
        ("[operators]\nover_mqtt = 'all'", "operators.over_mqtt"),
        (
            "[operators]\nover_mqtt = 'act'\n[mqtt]\nhost = 'ctl'\ntls = false",
            "could give themselves out as an operator",
        ),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(Misconfigured, match=says):
        load(tmp_path / "c.toml", text)


def test_the_writer_is_the_one_asked_for(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    (tmp_path / "token").chmod(0o600)
    v2 = load(
        tmp_path / "c.toml", f"[influx]\nkind='v2'\norg='o'\nbucket='b'\ntoken_file='{tmp_path / 'token'}'"
    ).influx
    writers = [make_writer(v2), make_writer(load(tmp_path / "c.toml", FULL).influx)]

    assert make_writer(CoordinatorSettings().influx) is None
    assert [type(writer) for writer in writers] == [InfluxV2, InfluxV1]
    for writer in writers:
        assert writer is not None
        asyncio.run(writer.aclose())
    (tmp_path / "token").unlink()
    with pytest.raises(Misconfigured, match="token_file: cannot read"):
        make_writer(v2)


def test_a_configuration_can_be_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(FULL)
    bad.write_text("clutser = 'x'")

    assert program.main(["--check-config", "--config", str(good)]) == 0
    assert program.main(["--check-config", "--config", str(bad)]) == 2
    bad.write_text(f"[groups.rack]\nfile = '{tmp_path / 'racks'}'")
    assert program.main(["--check-config", "--config", str(bad)]) == 2
    assert "groups.rack.file: cannot read" in capsys.readouterr().err
    bad.write_text("clutser = 'x'")
    assert program.main(["--config", str(bad)]) == 78
    assert "cluster" in capsys.readouterr().err
