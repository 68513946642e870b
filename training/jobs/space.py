"""What a search tries: settings by their dotted names, drawn from ranges and choices."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shopsight.training.pipeline.overrides import ConfigError, overridden
from shopsight.training.pipeline.recipes import Recipe

Space = Mapping[str, Any]
Settings = dict[str, Any]

# What matters most in each family, within what has been of use.
SPACES: dict[str, Space] = {
    "recommend": {
        "recommend.factors": [32, 64, 128],
        "recommend.unobserved_weights": [[0.003], [0.01], [0.03], [0.1], [0.3]],
        "recommend.regularizations": [[0.003], [0.01], [0.03], [0.1]],
        "recommend.regularization_exponent": {"low": 0.0, "high": 1.0},
    },
    "embedding": {
        "embedding.two_tower.dim": [32, 64, 128],
        "embedding.two_tower.temperature": {"low": 0.05, "high": 0.3, "log": True},
        "embedding.two_tower.popularity_correction": {"low": 0.0, "high": 1.0},
        "embedding.two_tower.loop.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "embedding.two_tower.loop.embedding_learning_rate": {"low": 0.01, "high": 0.3, "log": True},
    },
}


# What a trial reads of its recipe. What decides on whom and by what a trial is judged is not: trials of
# different measures cannot be compared.
READ: dict[str, tuple[str, ...]] = {
    "recommend": tuple(
        f"recommend.{name}"
        for name in (
            "event_weights",
            "half_life_days",
            "factors",
            "iterations",
            "regularization_exponent",
            "unobserved_weights",
            "regularizations",
            "bought_again",
        )
    ),
    "embedding": ("embedding.features", "embedding.two_tower"),
}
MEASURE = {
    "recommend.k",
    "recommend.test_days",
    "recommend.max_judged",
    "recommend.seed",
    "embedding.k",
    "embedding.test_days",
    "embedding.max_judged",
    "embedding.two_tower.loop.seed",
}
# A trial takes one value of each, the first.
_ONE_VALUE = ("recommend.unobserved_weights", "recommend.regularizations")


def check_space(space: Space, family: str) -> None:
    """Refuse settings that a trial of the family does not read, or that change what it is judged by.

    Raises ConfigError naming the setting.
    """
    if not space:
        raise ConfigError("the search space names no setting; nothing would be searched")
    for key, given in space.items():
        if key in MEASURE:
            raise ConfigError(
                f"search space, '{key}': it changes what trials are judged by; they could not be compared; "
                f"fix it with --set {key}=..."
            )
        if not any(key == name or key.startswith(f"{name}.") for name in READ[family]):
            raise ConfigError(
                f"search space, '{key}': a trial of {family} does not read it, and all would be the same; it "
                f"reads {', '.join(READ[family])}"
            )
        if key in _ONE_VALUE and isinstance(given, list) and any(_num_values(one) != 1 for one in given):
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
    """Return `count` different settings; equal arguments give equal settings, and more of them add to them.

    Raises ConfigError for a key that is no setting, a value that it does not take, or a malformed range.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, Settings] = {}
    for _ in range(20 * count):  # a space of few choices may hold fewer
        if len(found) == count:
            break
        settings = {key: _one(key, given, rng) for key, given in sorted(space.items())}
        found.setdefault(name_of(settings), settings)
    for settings in found.values():
        applied(recipe, settings)
    return list(found.values())


def applied(recipe: Recipe, settings: Settings) -> Recipe:
    """Return the recipe with these settings put over it."""
    return overridden(recipe, settings=[f"{key}={json.dumps(value)}" for key, value in settings.items()])


def name_of(settings: Settings) -> str:
    """Return a short name that equal settings share."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]


def as_toml(settings: Settings, comment: str) -> str:
    """Return the settings as a file that `--config` takes."""
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
