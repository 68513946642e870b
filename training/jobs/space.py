"""Search spaces: settings by their dotted names, drawn from ranges and choices."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shopsight.training.artifacts.family import Search
from shopsight.training.jobs.errors import JobError
from shopsight.training.pipeline.families import FAMILIES, named
from shopsight.training.pipeline.overrides import ConfigError, overridden
from shopsight.training.pipeline.recipes import Recipe

Space = Mapping[str, Any]
Settings = dict[str, Any]


def searched(family: str) -> Search:
    """Return the search descriptor of a family; raises JobError with the families that have one."""
    search = named(family).search
    if search is None:
        names = ", ".join(one.name for one in FAMILIES if one.search)
        raise JobError(f"no search over '{family}'; there are: {names}")
    return search


def check_space(space: Space, family: str) -> None:
    """Refuse settings that a trial of the family does not read, or that change its evaluation.

    Raises ConfigError naming the setting.
    """
    search = searched(family)
    if not space:
        raise ConfigError("the search space is empty; name at least one setting")
    for key, given in space.items():
        if key in search.measured_by:
            raise ConfigError(
                f"search space, '{key}': it changes the evaluation, so that trials could not be compared; "
                f"fix it with --set {key}=..."
            )
        if not any(key == name or key.startswith(f"{name}.") for name in search.read):
            raise ConfigError(
                f"search space, '{key}': a trial of {family} does not read it, and all would be the same; it "
                f"reads {', '.join(search.read)}"
            )
        if (
            key in search.one_value
            and isinstance(given, list)
            and any(_num_values(one) != 1 for one in given)
        ):
            raise ConfigError(
                f"search space, '{key}': a trial takes one value; write [[0.01], [0.1]] to try both"
            )


def read_space(path: Path) -> Space:
    """Read a TOML file of `"dotted.key" = [choices]` or `{low, high, log, integer}`; raises ConfigError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not a readable search space: {error}") from error


def draw(space: Space, count: int, seed: int, recipe: Recipe) -> list[Settings]:
    """Return `count` distinct settings; equal arguments give equal settings, and a larger count extends them.

    Raises ConfigError for an unknown setting, an invalid value, or a malformed range.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, Settings] = {}
    for _ in range(20 * count):  # a small space may have fewer settings
        if len(found) == count:
            break
        settings = {key: _one(key, given, rng) for key, given in sorted(space.items())}
        found.setdefault(name_of(settings), settings)
    for settings in found.values():
        applied(recipe, settings)
    return list(found.values())


def applied(recipe: Recipe, settings: Settings) -> Recipe:
    """Return the recipe overridden by these settings."""
    return overridden(recipe, settings=[f"{key}={json.dumps(value)}" for key, value in settings.items()])


def name_of(settings: Settings) -> str:
    """Return a short name; equal settings have equal names."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]


def as_toml(settings: Settings, comment: str) -> str:
    """Return the settings as TOML for `--config`."""
    sections: dict[str, list[str]] = {}
    for key, value in sorted(settings.items()):
        section, _, name = key.rpartition(".")
        sections.setdefault(section, []).append(f"{name} = {json.dumps(value)}")
    body = "\n\n".join(f"[{section}]\n" + "\n".join(lines) for section, lines in sections.items())
    return f"# {comment}\n{body}\n"


def _num_values(choice: Any) -> int:
    return len(choice) if isinstance(choice, list) else 1


def _one(key: str, given: Any, rng: np.random.Generator) -> Any:
    if isinstance(given, list) and given:
        return given[int(rng.integers(len(given)))]
    known = {"low", "high", "log", "integer"}
    if not isinstance(given, Mapping) or not {"low", "high"} <= set(given) <= known:
        raise ConfigError(f"search space, '{key}': expected [choices] or {{low, high, log, integer}}")
    low, high = float(given["low"]), float(given["high"])
    if not low < high or (given.get("log") and low <= 0):
        raise ConfigError(f"search space, '{key}': low {low:g} must be below high {high:g}, above 0 for log")
    if given.get("log"):
        value = math.exp(rng.uniform(math.log(low), math.log(high)))
    else:
        value = float(rng.uniform(low, high))
    return round(value) if given.get("integer") else float(f"{value:.4g}")
