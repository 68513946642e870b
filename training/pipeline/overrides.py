"""Overriding a recipe: a TOML file, then `--set section.key=value`, typed as the recipe declares."""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

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


def _apply(config: Config, values: Mapping[str, Any], *, where: str, path: str = "") -> Config:
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
        dotted = f"{path}.{key}" if path else key
        if not dataclasses.is_dataclass(current):
            changes[key] = _coerced(dotted, value, current, hints[key], where)
        elif isinstance(value, Mapping):
            changes[key] = _apply(current, value, where=where, path=dotted)
        else:
            raise ConfigError(f"{where}: '{key}' has settings of its own; {_example_within(dotted, current)}")
    try:
        return dataclasses.replace(config, **changes)  # type: ignore[type-var]
    except ValueError as error:  # the configuration's own rules
        raise ConfigError(f"{where}: {error}") from error


def _coerced(dotted: str, value: Any, current: Any, expected: Any, where: str) -> Any:
    fitting = _fitting(value, expected)
    if fitting is _UNFIT:
        given = list(value) if isinstance(value, tuple) else value
        raise ConfigError(
            f"{where}: '{dotted.rpartition('.')[2]}' takes {_in_words(expected)}, not {given!r}; "
            f"for example {_setting(dotted, _example(current, expected))}"
        )
    return fitting


_UNFIT = object()
_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "nothing"}
_MANY = {int: "whole numbers", float: "numbers", str: "texts", bool: "true or false"}
_EXAMPLES = {int: 1, float: 0.5, str: "text", bool: True}


def _fitting(value: Any, expected: Any) -> Any:
    """Return the value as the type that is expected, lists as tuples; _UNFIT where it is none."""
    if _is_union(expected):
        choices = (_fitting(value, one) for one in get_args(expected))
        return next((one for one in choices if one is not _UNFIT), _UNFIT)
    if get_origin(expected) is Literal:
        return value if value in get_args(expected) else _UNFIT
    if get_origin(expected) is tuple:
        return _fitting_list(value, get_args(expected))
    if expected is float and type(value) is int:
        return float(value)
    return value if type(value) is expected else _UNFIT


def _fitting_list(value: Any, of: tuple[Any, ...]) -> Any:
    if not isinstance(value, list | tuple):
        return _UNFIT
    kinds = of[:1] * len(value) if of[-1] is Ellipsis else of
    if len(kinds) != len(value):
        return _UNFIT
    parts = tuple(_fitting(one, kind) for one, kind in zip(value, kinds, strict=True))
    return _UNFIT if _UNFIT in parts else parts


def _is_union(expected: Any) -> bool:
    return get_origin(expected) in (Union, types.UnionType)


def _in_words(expected: Any) -> str:
    if _is_union(expected):
        return " or ".join(_in_words(one) for one in get_args(expected))
    if get_origin(expected) is Literal:
        return " or ".join(repr(one) for one in get_args(expected))
    if get_origin(expected) is tuple:
        of = get_args(expected)
        size = "" if of[-1] is Ellipsis else f"{len(of)} "
        return f"a list of {size}{_MANY.get(of[0], _in_words(of[0]))}"
    return _WORDS.get(expected, str(expected))


def _example(current: Any, expected: Any) -> Any:
    """Return a value that fits: the present one, or a made-up one where that is empty or none."""
    if current not in (None, (), ""):
        return list(current) if isinstance(current, tuple) else current
    while get_args(expected) and get_origin(expected) is not tuple:
        expected = get_args(expected)[0]
    if get_origin(expected) is tuple:
        return [_EXAMPLES.get(get_args(expected)[0], "text")]
    return _EXAMPLES.get(expected, "text")


def _example_within(dotted: str, config: Any) -> str:
    names = [field.name for field in dataclasses.fields(config)]
    hints = get_type_hints(type(config))
    simple = next((name for name in names if not dataclasses.is_dataclass(getattr(config, name))), names[0])
    example = _setting(f"{dotted}.{simple}", _example(getattr(config, simple), hints[simple]))
    return f"name one of {', '.join(names)}, for example {example}"


def _setting(dotted: str, value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return f"--set '{dotted}={text}'" if isinstance(value, list) else f"--set {dotted}={text.strip(chr(34))}"
