# SPDX-License-Identifier: Apache-2.0
"""Settings: a TOML file and environment variables become one validated model, or sentences that say what is wrong."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from refloat_contract.errors import Misconfigured
from refloat_service import complaints
from refloat_service.complaints import Source
from refloat_service.reference import reference

__all__ = ["Settings", "load", "reference"]


class Settings(BaseModel):
    """What all settings share: immutable, and no key that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


M = TypeVar("M", bound=BaseModel)


def load(model: type[M], path: Path | None, *, env_prefix: str, env: Mapping[str, str] = os.environ) -> M:
    """Read the file (none: defaults), put the environment over it, and validate.

    ``REFLOAT_AGENT__MQTT__HOST=x`` sets ``mqtt.host`` where ``env_prefix`` is ``REFLOAT_AGENT``. Values are read as
    TOML (``5``, ``true``, ``["a", "b"]``), and as plain text where they are not TOML or the key wants text.

    Raises:
        Misconfigured: one line for each problem: where, which key, what is wrong.
    """
    text = _read(path) if path is not None else ""
    data = _parse(text, path)
    source = Source(str(path) if path is not None else "configuration", text)
    overrides = {name: value for name, value in sorted(env.items()) if name.startswith(f"{env_prefix}__")}
    for name, value in overrides.items():
        keys = tuple(part.lower() for part in name.removeprefix(f"{env_prefix}__").split("__"))
        _put(data, keys, _literal(value), name)
        source.variables[keys] = name
    try:
        return model.model_validate(data)
    except Misconfigured as error:
        raise Misconfigured("\n".join(f"{source.name}: {line}" for line in str(error).splitlines())) from error
    except ValidationError as error:
        if _as_text(error, data, source, overrides):
            return _again(model, data, source)
        raise Misconfigured(complaints.describe(model, error, data, source)) from error


def _again(model: type[M], data: dict[str, Any], source: Source) -> M:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise Misconfigured(complaints.describe(model, error, data, source)) from error


def _as_text(error: ValidationError, data: dict[str, Any], source: Source, overrides: Mapping[str, str]) -> bool:
    """Put back as text the variables that looked like TOML numbers or the like where the key wants text."""
    changed = False
    for problem in error.errors(include_url=False, include_context=False):
        keys = problem["loc"]
        if problem["type"] in {"string_type", "path_type"} and keys in source.variables:
            name = source.variables[keys]
            _put(data, tuple(str(key) for key in keys), overrides[name], name)
            changed = True
    return changed


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise Misconfigured(f"cannot read {path}: {error.strerror}") from error


def _parse(text: str, path: Path | None) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"{path}: not valid TOML: {error}") from error


def _literal(value: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return value
    return parsed["value"] if parsed.keys() == {"value"} else value


def _put(data: dict[str, Any], keys: tuple[str, ...], value: Any, name: str) -> None:
    for depth, key in enumerate(keys[:-1], 1):
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise Misconfigured(f"{name}: {'.'.join(keys[:depth])} is not a table, so nothing in it can be set")
    data[keys[-1]] = value
