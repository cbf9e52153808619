# SPDX-License-Identifier: Apache-2.0
"""Which kinds of check there are, and the checks that a configuration asks for."""

import difflib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final, Protocol

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError

from refloat_checks.api import Finding, Limits, Profile, Severity, When
from refloat_checks.facts import Facts
from refloat_checks.wakes import Wake
from refloat_contract.errors import Misconfigured

ENTRY_POINTS: Final = "refloat.checks"
NHC_LINE: Final = "nhc"
"""The kind of a line of an nhc.conf, which `nhc.live` makes a check of; no configuration can name it."""
NHC_SCRIPTS: Final = "scripts"
"""Where the site's scripts are, beside an nhc.conf."""
# Any: each kind's look takes its own limits, and only its own kind's limits are ever given to it.
Look = Callable[[Facts, Any, str], Awaitable[Finding]]
Found = Callable[[str, Finding], None]
"""Hears what was found of the check of this name."""
Wakes = Callable[[Any], tuple[Wake, ...]]


def _nothing(limits: Any) -> tuple[Wake, ...]:  # noqa: ARG001 - a kind that knows no event
    return ()


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of check: its word in the configuration, what it can be told, how it looks, and what wakes it."""

    name: str
    limits: type[Limits]
    look: Look
    wakes: Wakes = _nothing


# Word, module, limits. A module is loaded when a check asks for its kind: an agent pays for the kinds that it uses.
_SHIPPED: Final[Mapping[str, tuple[str, str]]] = {
    "mount": ("mounts", "MountLimits"),
    "filesystem": ("filesystems", "FilesystemLimits"),
    "process": ("processes", "ProcessLimits"),
    "link": ("network", "LinkLimits"),
    "file": ("files", "FileLimits"),
    "command": ("commands", "CommandLimits"),
    "plugin": ("plugins", "PluginLimits"),
    "systemd": ("systemd_units", "SystemdLimits"),
    "sysctl": ("sysctl", "SysctlLimits"),
    "kernel": ("kernel", "KernelLimits"),
    "clock": ("clock", "ClockLimits"),
    "memory": ("memory", "MemoryLimits"),
    "stuck": ("stuck", "StuckLimits"),
    "leak": ("leaks", "LeakLimits"),
    "infiniband": ("infiniband", "InfinibandLimits"),
    "edac": ("edac", "EdacLimits"),
    "thermal": ("thermal", "ThermalLimits"),
    "cpufreq": ("cpufreq", "CpufreqLimits"),
    "pci": ("pci", "PciLimits"),
    "gpu": ("gpu", "GpuLimits"),
    "nvme": ("nvme", "NvmeLimits"),
    "lustre": ("lustre", "LustreLimits"),
    "beegfs": ("beegfs", "BeegfsLimits"),
    "gpfs": ("gpfs", "GpfsLimits"),
    "nfs": ("nfs", "NfsLimits"),
    "resolve": ("resolve", "ResolveLimits"),
    "package": ("packages", "PackageLimits"),
    "cpu": ("cpu", "CpuLimits"),
    "load": ("load", "LoadLimits"),
    "kswapd": ("kswapd", "KswapdLimits"),
    "usage": ("usage", "UsageLimits"),
    "users": ("users", "UsersLimits"),
    "lineage": ("lineage", "LineageLimits"),
    "socket": ("open_sockets", "SocketLimits"),
    "dmi": ("firmware", "DmiLimits"),
    "mcelog": ("mcelog", "McelogLimits"),
    "nvidia_tool": ("nvidia_tool", "NvidiaToolLimits"),
    "moab": ("moab", "MoabLimits"),
    "kernel-log": ("kernel_log", "KernelLogLimits"),
    "dmesg": ("dmesg", "DmesgLimits"),
    "ping": ("ping", "PingLimits"),
}


class _Shipped(Mapping[str, Kind]):
    """The kinds that come with refloat, by their words."""

    def __init__(self) -> None:
        self._loaded: dict[str, Kind] = {}

    def __getitem__(self, word: str) -> Kind:
        if word not in self._loaded:
            module, limits = _SHIPPED[word]
            found = import_module(f"refloat_checks.{module}")
            self._loaded[word] = Kind(word, getattr(found, limits), found.look, getattr(found, "wakes", _nothing))
        return self._loaded[word]

    def __contains__(self, word: object) -> bool:
        return word in _SHIPPED

    def __iter__(self) -> Iterator[str]:
        return iter(_SHIPPED)

    def __len__(self) -> int:
        return len(_SHIPPED)


KINDS: Final[Mapping[str, Kind]] = _Shipped()
# What they look at is in the files of an image, too.
_OF_A_TREE: Final = frozenset({"file", "package"})


class CheckSpec(BaseModel):
    """One check of the configuration. In TOML its limits stand beside these keys, in the same table."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=64,
        description="Unique name; it stands in the reason of a node that this check drained.",
    )
    kind: str = Field(alias="type", description="Kind of check.")
    limits: SerializeAsAny[Limits] = Field(description="What it measures against.")
    deadline_s: float = Field(10.0, gt=0, description="A look that takes longer finds UNKNOWN.")
    fail_unanswered_s: float | None = Field(
        None,
        gt=0,
        description="A filesystem that has answered nothing for so many seconds is FAILED; not given: always UNKNOWN, "
        "which drains nobody.",
    )
    interval_s: float = Field(60.0, gt=0, description="How often it is looked at, aligned to the wall clock.")
    fail_after: int = Field(1, ge=1, description="So many FAILED in a row make the node unhealthy.")
    pass_after: int = Field(1, ge=1, description="So many OK in a row make it healthy again.")
    flap_limit: int = Field(
        0,
        ge=0,
        description="So many changes between unhealthy and healthy within `flap_window_s` are flapping; 0: never.",
    )
    flap_window_s: float = Field(3600.0, gt=0, description="See `flap_limit`.")
    flap_pass_s: float = Field(
        300.0, gt=0, description="A check that flaps must pass for so long to be believed; doubles with each failure."
    )
    flap_pass_most_s: float = Field(86400.0, gt=0, description="Where that doubling ends.")
    sticky: bool = Field(
        default=False, description="A failure stays until the node boots, or `refloat check clear` takes it away."
    )
    severity: Severity = Field(Severity.DRAIN, description='`"drain"`, or `"warn"`: reported, but never drains.')
    remedy: str = Field(
        "",
        description="A recipe that is begun by itself on a node that this check has drained, once it is empty; see "
        "`loop_limit` in agent.toml. Not given: none.",
    )
    when: When = Field(
        When.ALWAYS,
        description='`"always"`: on its interval and before a resume; `"idle"`: on its interval while no job is on the '
        'node, and stopped when one comes; `"resume"`: only before the node goes back to service; `"boot"`: from the '
        "agent's start until it has passed once, and before a resume.",
    )
    profiles: tuple[Profile, ...] | None = Field(
        None,
        description='Which `refloat check --profile` ask for it: `"prolog"`, `"epilog"`, `"boot"`, `"image"`. Not '
        "given: prolog and epilog if it is looked at always; boot unless it is for an idle node; image if it needs no "
        "running system.",
    )
    enabled: bool = Field(default=True, description="false: not looked at, as if it were not there.")

    def is_in(self, profile: Profile) -> bool:
        """Whether a profile asks for this check."""
        if self.profiles is not None:
            return profile in self.profiles
        match profile:
            case Profile.PROLOG | Profile.EPILOG:
                return self.when is When.ALWAYS
            case Profile.BOOT:
                return self.when is not When.IDLE
            case Profile.IMAGE:
                return self.kind in _OF_A_TREE


_OWN_KEYS: Final = frozenset(CheckSpec.model_fields) - {"kind", "limits"} | {"type"}


class Together(Protocol):
    """Looks at many checks in one go."""

    async def look_at(self, facts: Facts, specs: Sequence[CheckSpec], found: Found) -> None:
        """Look at these, and tell of each one when that is there."""


def build(tables: Iterable[Mapping[str, Any]]) -> list[CheckSpec]:
    """Build the checks of a configuration's `[[check]]` tables.

    Raises Misconfigured that says everything that is wrong with them, one line for each fault.
    """
    specs: list[CheckSpec] = []
    faults: list[str] = []
    for number, table in enumerate(tables, start=1):
        try:
            specs.append(_build_one(table, _where(table, number)))
        except Misconfigured as error:
            faults.append(str(error))
    names = [spec.name for spec in specs]
    faults += [f"check {name!r}: the name is used twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if faults:
        raise Misconfigured("\n".join(faults))
    return specs


def _where(table: Mapping[str, Any], number: int) -> str:
    name = table.get("name")
    return f"check {name!r}" if isinstance(name, str) and name else f"check number {number} (without a name)"


def _build_one(table: Mapping[str, Any], where: str) -> CheckSpec:
    kind = find_kind(table.get("type"), where)
    own = {key: value for key, value in table.items() if key in _OWN_KEYS}
    rest = {key: value for key, value in table.items() if key not in _OWN_KEYS}
    known = sorted(_OWN_KEYS | set(kind.limits.model_fields))
    faults: list[str] = []
    limits = spec = None
    try:
        limits = kind.limits.model_validate(rest)
    except ValidationError as error:
        faults += _faults(error, where, known)
    try:
        # Also when the limits are wrong, so that all that is wrong is said at once.
        spec = CheckSpec.model_validate({**own, "limits": limits or Limits()})
    except ValidationError as error:
        faults += _faults(error, where, known)
    if limits is None or spec is None:
        raise Misconfigured("\n".join(faults))
    return spec


def _faults(error: ValidationError, where: str, known: list[str]) -> list[str]:
    return [_fault(detail, where, known) for detail in error.errors(include_url=False, include_context=False)]


def _fault(detail: Mapping[str, Any], where: str, known: list[str]) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    match detail["type"]:
        case "extra_forbidden":
            return f"{where}: unknown key {key!r}{_nearest(key, known)}"
        case "missing":
            return f"{where}: the key {key!r} is missing"
        case _ if key:
            return f"{where}: {key} = {detail['input']!r}: {_sentence(detail['msg'])}"
        case _:
            return f"{where}: {_sentence(detail['msg'])}"


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ")


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else f" (known are: {', '.join(known)})"


def find_kind(word: object, where: str) -> Kind:
    """Find a kind of check by its word: ours, or one that an installed package offers.

    Raises Misconfigured, which names the nearest known one.
    """
    if word is None:
        raise Misconfigured(f"{where}: the key 'type' is missing (one of: {', '.join(KINDS)})")
    if not isinstance(word, str):
        raise Misconfigured(f"{where}: type = {word!r}: a string is wanted")
    if word in KINDS:
        return KINDS[word]
    others = entry_points(group=ENTRY_POINTS)
    if word not in others.names:
        raise Misconfigured(f"{where}: unknown type {word!r}{_nearest(word, sorted({*KINDS, *others.names}))}")
    try:
        found = others[word].load()
    except (ImportError, AttributeError) as error:
        raise Misconfigured(f"{where}: type {word!r} cannot be loaded from {others[word].value}: {error}") from error
    if not isinstance(found, Kind):
        raise Misconfigured(f"{where}: type {word!r}: {others[word].value} is not a refloat_checks.registry.Kind")
    return found


def look_of(spec: CheckSpec) -> Look:
    """Give what looks for this check."""
    return find_kind(spec.kind, f"check {spec.name!r}").look


def wakes_of(spec: CheckSpec) -> tuple[Wake, ...]:
    """Give what wakes this check."""
    return find_kind(spec.kind, f"check {spec.name!r}").wakes(spec.limits)
