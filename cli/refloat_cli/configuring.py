# SPDX-License-Identifier: Apache-2.0
"""What `refloat config` runs: the models of the configuration files, the lint of an nhc.conf, and whose a file is."""

import contextlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from refloat_agent.boot_profile import names_slurmd
from refloat_agent.config import AgentSettings
from refloat_checks import registry
from refloat_checks.api import Profile, When
from refloat_checks.nhc import plan, sources
from refloat_checks.nhc import registry as nhc_registry
from refloat_checks.nhc.lint import lint
from refloat_cli.config import Kind, Part
from refloat_cli.operator_file import OperatorSettings
from refloat_contract.errors import Misconfigured
from refloat_coordinator.config import CoordinatorSettings
from refloat_service import settings

_MODELS: dict[Kind, type[BaseModel]] = {
    Kind.AGENT: AgentSettings,
    Kind.COORDINATOR: CoordinatorSettings,
    Kind.OPERATOR: OperatorSettings,
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found of one file."""

    file: Path
    kind: Kind | None
    problems: tuple[str, ...] = ()
    unreadable: bool = False
    warnings: tuple[str, ...] = ()
    """What works, and perhaps otherwise than meant."""

    @property
    def is_good(self) -> bool:
        """Whether the daemon would start with it."""
        return not self.problems

    @property
    def exit_status(self) -> int:
        """0 where it is good; 1 for traps, with which it works after all; 2 for what is wrong."""
        return 0 if self.is_good else 1 if self.kind is Kind.NHC and not self.unreadable else 2

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "file": str(self.file),
            "kind": self.kind,
            "good": self.is_good,
            "problems": list(self.problems),
            "warnings": list(self.warnings),
        }


def judge(file: Path, kind: Kind | None) -> Judgement:
    """Read one file as its daemon would."""
    try:
        kind = kind or recognised(file)
        if kind is Kind.NHC:
            return _judge_nhc(file)
        loaded = settings.load(_MODELS[kind], file, env_prefix="REFLOAT", env={})
    except Misconfigured as error:
        return Judgement(file, kind, tuple(str(error).splitlines()))
    warnings = _warnings(loaded) if isinstance(loaded, AgentSettings) else []
    return Judgement(file, kind, warnings=tuple(f"{file}: {warning}" for warning in warnings))


def _warnings(loaded: AgentSettings) -> list[str]:
    named = [spec for spec in loaded.checks() if names_slurmd(spec)]
    at_boot = [spec for spec in named if spec.when is When.BOOT or Profile.BOOT in (spec.profiles or ())]
    return [
        f"check {spec.name!r} is for the boot, and names slurmd: the boot gate does not wait for it, for slurmd starts "
        "only behind the gate"
        for spec in at_boot
    ]


def _judge_nhc(file: Path) -> Judgement:
    try:
        scripts = sources.scripts(str(file.parent / registry.NHC_SCRIPTS))
        text = file.read_bytes().decode(errors="surrogateescape")
    except OSError as error:
        return Judgement(file, Kind.NHC, (f"{file}: {error.strerror}",), unreadable=True)
    except Misconfigured as error:
        return Judgement(file, Kind.NHC, (str(error),), unreadable=True)
    known = {*nhc_registry.names(), *plan.make("", "", scripts, sources.is_native).functions}
    return Judgement(file, Kind.NHC, tuple(f"{file}:{trap}" for trap in lint(text, known)))


def recognised(file: Path) -> Kind:
    """Whose configuration a file is, by its name, or by its keys."""
    if file.suffix == ".conf":
        return Kind.NHC
    named = [kind for kind in Kind if kind in file.name]
    if len(named) == 1:
        return named[0]
    keys: set[str] = set()
    with contextlib.suppress(OSError, ValueError):  # load says it better
        keys = set(tomllib.loads(file.read_text()))
    known = {kind: len(keys & _only(kind)) for kind in _MODELS}
    likely = [kind for kind, number in known.items() if number and number == max(known.values())]
    if len(likely) == 1:
        return likely[0]
    raise Misconfigured(f"{file}: cannot tell whose configuration this is: say --kind agent, coordinator or operator")


def _only(kind: Kind) -> set[str]:
    others = {key for other, model in _MODELS.items() if other is not kind for key in model.model_fields}
    return set(_MODELS[kind].model_fields) - others


def reference(part: Part | None) -> str:
    """The configuration reference, or a part of it."""
    parts = {
        Part.AGENT: lambda: settings.reference(AgentSettings, "agent.toml"),
        Part.COORDINATOR: lambda: settings.reference(CoordinatorSettings, "coordinator.toml"),
        Part.OPERATOR: lambda: settings.reference(OperatorSettings, "operator.toml"),
        Part.CHECKS: _checks,
    }
    return "\n".join(write() for name, write in parts.items() if part in (None, name))


def _checks() -> str:
    every = settings.reference(registry.CheckSpec, "Checks").splitlines()
    lines = [line for line in every if not line.startswith("| `limits`")]
    # What every check has comes first, then what each type adds.
    common = "\n".join(lines).partition("\n## ")[0].rstrip() + "\n"
    kinds = [settings.reference(kind.limits, f'type = "{name}"') for name, kind in registry.KINDS.items()]
    return common + "".join(f"\n#{text}" for text in kinds)
