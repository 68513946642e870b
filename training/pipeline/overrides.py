"""Overriding a recipe: a TOML file, then `--set section.key=value`, typed as the recipe declares."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

Config = TypeVar("Config")


class ConfigError(ValueError):
    """A configuration names what does not exist or gives it a value of the wrong type."""


def overridden(config: Config, *, toml_path: Path | None = None, settings: Sequence[str] = ()) -> Config:
    """Return the dataclass `config` with a TOML file's values, then `key=value` settings, put over it.

    Raises ConfigError naming the key, the file or setting it stands in, and the nearest known key.
    """
    if toml_path is not None:
        config = _apply(config, _read_toml(toml_path), where=str(toml_path))
    for setting in settings:
        dotted, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f"--set {setting}: expected key=value, for example recommend.factors=64")
        nested: Any = _parse(text)
        for part in reversed(dotted.strip().split(".")):
            nested = {part: nested}
        config = _apply(config, nested, where=f"--set {setting}")
    return config


def as_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as plain JSON-ready data, to be saved with every model."""
    return dataclasses.asdict(config)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such configuration file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _apply(config: Config, values: Mapping[str, Any], *, where: str) -> Config:
    known = {field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    hints = get_type_hints(type(config))
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if moved := getattr(type(config), "MOVED", {}).get(key):
            raise ConfigError(f"{where}: '{key}' is no setting of {type(config).__name__} any more; {moved}")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known keys: {', '.join(sorted(known))}"
            raise ConfigError(f"{where}: '{key}' is no setting of {type(config).__name__}{hint}")
        current = getattr(config, key)
        if dataclasses.is_dataclass(current) and isinstance(value, Mapping):
            changes[key] = _apply(current, value, where=where)
        else:
            changes[key] = _coerced(key, value, hints[key], where)
    try:
        return dataclasses.replace(config, **changes)  # type: ignore[type-var]
    except ValueError as error:  # the configuration's own rules
        raise ConfigError(f"{where}: {error}") from error


def _coerced(key: str, value: Any, expected: Any, where: str) -> Any:
    accepted = get_args(expected) or (expected,)
    if isinstance(value, list):
        value = tuple(value)
    if isinstance(value, int) and not isinstance(value, bool) and float in accepted and int not in accepted:
        return float(value)
    if value in accepted or isinstance(value, tuple):
        return value
    if any(isinstance(kind, type) and type(value) is kind for kind in accepted):
        return value
    raise ConfigError(f"{where}: '{key}' takes {expected}, not {value!r}")
