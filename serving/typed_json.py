"""Reads JSON into dataclasses with type checks; errors name the field."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}


class ShapeError(ValueError):
    """JSON does not have the expected types and fields; the message names the field."""


def parse_object(text: str) -> dict[str, Any]:
    """Parse a JSON object; raises ShapeError for anything else."""
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of too many digits
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ShapeError(f"not valid JSON ({reason})") from error
    if not isinstance(loaded, dict):
        raise ShapeError(f"holds {_named(loaded)}, expected an object")
    return loaded


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a UTF-8 file; raises ShapeError or OSError."""
    if path.exists() and not path.is_file():  # reading a named pipe would block for ever
        raise ShapeError("not a file")
    try:
        return parse_object(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ShapeError(f"not valid UTF-8 (byte {error.start})") from error


def build(kind: type[T], raw: Any, where: str = "") -> T:
    """Return the dataclass `kind` with the values of `raw`; raises ShapeError naming the field.

    Lists become tuples if the dataclass declares tuples. Unknown fields, and missing fields without a
    default, are refused.
    """
    return _value(kind, raw, where)  # type: ignore[no-any-return]


def _value(kind: Any, raw: Any, where: str) -> Any:
    if kind is Any:
        return raw
    if is_dataclass(kind):
        return _dataclass(kind, raw, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return _checked(raw in arguments, raw, where, f"one of {', '.join(map(repr, arguments))}")
    if origin in (Union, types.UnionType):
        if raw is None and type(None) in arguments:
            return None
        (kind,) = (one for one in arguments if one is not type(None))
        return _value(kind, raw, where)
    if origin is tuple:
        _checked(isinstance(raw, list), raw, where, "a list")
        return tuple(_value(arguments[0], one, f"{where}[{i}]") for i, one in enumerate(raw))
    if origin in (dict, Mapping):
        _checked(isinstance(raw, dict), raw, where, "an object")
        return {name: _value(arguments[1], one, _inside(where, name)) for name, one in raw.items()}
    if origin is list:
        return _checked(isinstance(raw, list), raw, where, "a list")
    return _scalar(kind, raw, where)


def _dataclass(kind: Any, raw: Any, where: str) -> Any:
    _checked(isinstance(raw, dict), raw, where, "an object")
    hints, known = get_type_hints(kind), {field.name: field for field in fields(kind)}
    if unknown := sorted(raw.keys() - known.keys()):
        raise ShapeError(f"{_inside(where, unknown[0])}: unknown field")
    values = {}
    for name, field in known.items():
        if name in raw:
            values[name] = _value(hints[name], raw[name], _inside(where, name))
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ShapeError(f"{_inside(where, name)}: missing")
    try:
        return kind(**values)
    except ValueError as error:
        raise ShapeError(f"{where}: {error}" if where else str(error)) from error


def _scalar(kind: Any, raw: Any, where: str) -> Any:
    if kind is float:
        is_number = isinstance(raw, int | float) and not isinstance(raw, bool)
        return float(_checked(is_number, raw, where, "a number"))
    if kind is int:
        return _checked(isinstance(raw, int) and not isinstance(raw, bool), raw, where, "an integer")
    return _checked(isinstance(raw, kind), raw, where, _NAMES[kind])


def _checked(holds: bool, raw: Any, where: str, expected: str) -> Any:
    if not holds:
        raise ShapeError(f"{where + ' is ' if where else ''}{_named(raw)}, expected {expected}")
    return raw


def _inside(where: str, name: str) -> str:
    shown = name if name.isidentifier() else repr(name)
    return f"{where}.{shown}" if where else shown


def _named(raw: Any) -> str:
    return _NAMES.get(type(raw)) or f"the number {str(raw)[:40]}"
