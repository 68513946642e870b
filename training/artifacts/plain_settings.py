"""Converts settings for storage: NumPy values to plain ones, and JSON back to a configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

import numpy as np

Config = TypeVar("Config")


def take_plain_values(config: Any) -> None:
    """Replace the NumPy values among a frozen dataclass's fields; call it first in `__post_init__`.

    NumPy scalars and arrays without a dimension become int, float, bool or str, other arrays and lists
    tuples. A field declared int takes a whole float as an int. Raises ValueError naming one that is not.
    """
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        given = getattr(config, field.name)
        value = _plain(given)
        if hints[field.name] is int and isinstance(value, float):
            if not value.is_integer():
                raise ValueError(f"{field.name}={value}: must be a whole number")
            value = int(value)
        if value is not given:
            object.__setattr__(config, field.name, value)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        plain = tuple(_plain(one) for one in value)
        same = isinstance(value, tuple) and all(a is b for a, b in zip(plain, value, strict=True))
        return value if same else plain
    return value


def config_from(kind: type[Config], raw: Mapping[str, Any]) -> Config:
    """Restore a configuration from the JSON form of its `asdict`."""
    hints, values = get_type_hints(kind), {}
    for name, value in raw.items():
        if dataclasses.is_dataclass(hints[name]):
            values[name] = config_from(hints[name], value)
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)
