# SPDX-License-Identifier: Apache-2.0
import inspect
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from refloat_checks import registry
from refloat_checks.api import Limits, Severity, When
from refloat_checks.mounts import MountLimits
from refloat_checks.registry import KINDS, CheckSpec, Kind, build, look_of
from refloat_contract.errors import Misconfigured

SCRATCH = {"name": "scratch", "type": "mount", "path": "/scratch", "fstype": "lustre"}


def test_a_table_becomes_a_check() -> None:
    (spec,) = build([{**SCRATCH, "fail_after": 3, "severity": "warn", "when": "resume"}])

    assert spec.name == "scratch"
    assert spec.limits == MountLimits(path="/scratch", fstype="lustre")
    assert (spec.deadline_s, spec.interval_s, spec.fail_after, spec.pass_after) == (10, 60, 3, 1)
    assert (spec.severity, spec.when, spec.enabled) == (Severity.WARN, When.RESUME, True)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"fsytpe": "x"}, "check 'scratch': unknown key 'fsytpe' (did you mean 'fstype'?)"),
        ({"deadline": 5}, "check 'scratch': unknown key 'deadline' (did you mean 'deadline_s'?)"),
        ({"type": "mont"}, "check 'scratch': unknown type 'mont' (did you mean 'mount'?)"),
        ({"type": 5}, "check 'scratch': type = 5: a string is wanted"),
        ({"path": "scratch"}, "check 'scratch': path = 'scratch': String should match pattern '^/'"),
        ({"deadline_s": 0}, "check 'scratch': deadline_s = 0: Input should be greater than 0"),
        ({"severity": "fatal"}, "check 'scratch': severity = 'fatal': Input should be 'drain' or 'warn'"),
        ({"fstype": "/nfs(/"}, "check 'scratch': fstype = '/nfs(/': column 5: this '(' is never closed"),
        ({"kind": "mount"}, "check 'scratch': unknown key 'kind'"),
        ({"limits": {}}, "check 'scratch': unknown key 'limits'"),
        ({"name": "a b"}, "check 'a b': name = 'a b': String should match pattern"),
    ],
)
def test_a_fault_names_the_check_the_key_and_the_nearest_known_one(change: dict[str, Any], line: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        build([{**SCRATCH, **change}])

    assert str(raised.value).startswith(line)


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ({"name": "x", "type": "mount"}, "check 'x': the key 'path' is missing"),
        ({"name": "x", "path": "/"}, "check 'x': the key 'type' is missing (one of: mount, filesystem, process,"),
        ({"type": "mount", "path": "/"}, "check number 1 (without a name): the key 'name' is missing"),
        ({"name": "x", "type": "process"}, "check 'x': one of the keys process, argv0, pattern or contains must"),
        (
            {"name": "x", "type": "filesystem", "path": "/", "min_free": "lots"},
            "check 'x': min_free = 'lots': 'lots' is",
        ),
    ],
)
def test_what_is_missing_or_makes_no_sense_is_named(table: dict[str, Any], line: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        build([table])

    assert str(raised.value).startswith(line)


def test_all_faults_are_said_at_once() -> None:
    with pytest.raises(Misconfigured) as raised:
        build([{**SCRATCH, "fsytpe": "x", "deadline_s": "soon"}, SCRATCH, SCRATCH, {"name": "y", "type": "lnk"}])

    assert [line.partition(":")[2].split()[0:2] for line in str(raised.value).splitlines()] == [
        ["unknown", "key"],
        ["deadline_s", "="],
        ["unknown", "type"],
        ["the", "name"],
    ]


def test_every_kind_and_key_is_described_for_the_reference() -> None:
    undescribed = [
        f"{kind.name}.{key}"
        for kind in KINDS.values()
        for key, field in kind.limits.model_fields.items()
        if not field.description
    ]
    undescribed += [key for key, field in CheckSpec.model_fields.items() if not field.description]

    assert undescribed == []


@pytest.mark.parametrize("word", list(KINDS))
def test_the_example_of_a_kind_is_one(word: str) -> None:
    doc = inspect.cleandoc(KINDS[word].limits.__doc__ or "")

    specs = build(tomllib.loads(doc.partition("```toml\n")[2].partition("```")[0])["check"])

    assert {spec.kind for spec in specs} == {word}


def test_only_the_kinds_that_are_asked_for_are_loaded() -> None:
    asked = [{"name": "m", "type": "mount", "path": "/"}, {"name": "x", "type": "gpu"}]
    program = f"import sys; from refloat_checks.registry import build; build({asked!r}); print(*sys.modules)"

    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()

    assert {"refloat_checks.mounts", "refloat_checks.gpu"} <= set(said)
    assert not {"refloat_checks.nvme", "refloat_checks.lustre", "refloat_checks.gpu_probe", "pynvml"} & set(said)


def test_no_kind_has_a_key_that_every_check_has() -> None:
    for kind in KINDS.values():
        assert not registry._OWN_KEYS & set(kind.limits.model_fields), kind.name


class TideLimits(Limits):
    """What the kind of check of another package measures against."""

    height: int


TIDE = Kind("tide", TideLimits, KINDS["link"].look)
NOT_A_KIND = object()


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Offer a kind of check as an installed package would."""

    def offer(value: str) -> None:
        points = EntryPoints([EntryPoint("tide", value, registry.ENTRY_POINTS)])
        # The standard library's own list of what is installed: no other package can be installed for one test.
        monkeypatch.setattr(registry, "entry_points", lambda group: points)

    return offer


def test_another_package_can_offer_a_kind(offer: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "TIDE", TIDE, raising=False)
    offer("refloat_checks.registry:TIDE")

    (spec,) = build([{"name": "t", "type": "tide", "height": 3}])

    assert spec.limits == TideLimits(height=3)
    assert look_of(spec) is TIDE.look


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("no_such_module:x", "type 'tide' cannot be loaded from no_such_module:x"),
        ("refloat_checks.registry:no_such_name", "type 'tide' cannot be loaded from"),
        ("refloat_checks.registry:build", "is not a refloat_checks.registry.Kind"),
    ],
)
def test_a_kind_that_cannot_be_had_is_a_fault(offer: Callable[[str], None], value: str, line: str) -> None:
    offer(value)

    with pytest.raises(Misconfigured) as raised:
        build([{"name": "t", "type": "tide"}])

    assert line in str(raised.value)
