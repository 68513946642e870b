"""How the settings of the factorisation are chosen: one knob after the other, on the validation cut alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from rich.console import Console

from benchmarks.recommend_methods import Factorised, Settings, asked_users, figures
from benchmarks.recommend_sets import PublicSet
from shopsight.training.recommend.mf.config import MFConfig

_SAMPLE_SEED = 1


@dataclass(frozen=True)
class Space:
    """Where the search starts, which values of each knob it tries, in this order, and on how many users.

    popularity: the exponents tried with every fit, for they need none of their own.
    """

    start: Settings
    knobs: dict[str, tuple[float, ...]]
    popularity: tuple[float, ...]
    num_users: int


SPACES = {
    "gowalla_lightgcn": Space(
        Settings(
            MFConfig(
                num_factors=256,
                unobserved_weight=0.1,
                regularization=0.5,
                regularization_exponent=0.0,
                num_epochs=2,
            ),
            degree_exponent=0.4,
        ),
        {
            "num_factors": (256, 512, 1024),
            "unobserved_weight": (0.05, 0.1, 0.2, 0.4),
            "degree_exponent": (0.0, 0.25, 0.4, 0.5),
            "regularization": (0.2, 0.5, 1.0),
        },
        (0.0, 0.05, 0.1, 0.15, 0.2),
        3_000,
    ),
    "ml1m": Space(
        Settings(
            MFConfig(
                num_factors=64,
                unobserved_weight=1.0,
                regularization=3.0,
                regularization_exponent=0.0,
                num_epochs=8,
            )
        ),
        {
            "half_life_asked": (np.inf, 8.0, 4.0, 2.0, 1.0),
            "half_life": (np.inf, 20.0, 10.0, 5.0, 2.0),
            "unobserved_weight": (0.3, 1.0, 3.0, 10.0),
            "regularization": (1.0, 3.0, 10.0, 30.0),
            "degree_exponent": (0.0, 0.2, 0.4),
            "num_factors": (32, 64, 128),
            "num_epochs": (4, 8, 16),
        },
        (-0.1, 0.0, 0.1),
        10_000,
    ),
    "ml1m_unordered": Space(
        Settings(
            MFConfig(
                num_factors=64,
                unobserved_weight=1.0,
                regularization=30.0,
                regularization_exponent=0.0,
                num_epochs=8,
            )
        ),
        {
            "unobserved_weight": (0.1, 0.3, 1.0, 3.0),
            "regularization": (3.0, 10.0, 30.0, 100.0),
            "degree_exponent": (0.0, 0.2, 0.4),
            "num_factors": (32, 64, 128, 256),
            "num_epochs": (4, 8, 16),
        },
        (-0.1, 0.0, 0.1),
        10_000,
    ),
}


def search(chosen: PublicSet, space: Space, console: Console) -> Settings:
    """Walk along each knob once and keep what has the best NDCG; prints every trial, returns the best."""
    cut = chosen.read_validation()
    users = asked_users(cut.held_out)
    if len(users) > space.num_users:
        draw = np.random.default_rng(_SAMPLE_SEED).choice(users, space.num_users, replace=False)
        users = np.sort(draw)
    wanted = cut.held_out[users]

    def trial(settings: Settings) -> Iterator[tuple[float, Settings]]:
        began = time.process_time()
        model = Factorised(settings, cut)
        for exponent in space.popularity:
            recall, ndcg = figures(model.lists(users, chosen.k, True, exponent), wanted)
            tried = replace(settings, popularity_exponent=exponent)
            console.print(
                f"{recall:.4f} / {ndcg:.4f}  {_differing(tried)}, {time.process_time() - began:.0f} CPU s"
            )
            yield ndcg, tried

    figure, best = max(trial(space.start), key=_first)
    for knob, values in space.knobs.items():
        for settings in [_with(best, knob, value) for value in values if value != _value(best, knob)]:
            figure, best = max([(figure, best), *trial(settings)], key=_first)
        console.print(f"[bold]{knob}: {_value(best, knob)}, NDCG {figure:.4f}[/bold]")
    console.print(f"chosen: {best}")
    return best


def _first(pair: tuple[float, Settings]) -> float:
    return pair[0]


def _value(settings: Settings, knob: str) -> float:
    return float(getattr(settings if hasattr(settings, knob) else settings.config, knob))


def _with(settings: Settings, knob: str, value: float) -> Settings:
    if hasattr(settings, knob):
        return Settings(**(vars(settings) | {knob: value}))
    typed = type(getattr(settings.config, knob))(value)
    return replace(settings, config=MFConfig(**(vars(settings.config) | {knob: typed})))


def _differing(settings: Settings) -> str:
    """What is not at its default."""
    parts = []
    for part, plain in ((settings.config, MFConfig()), (settings, Settings(MFConfig()))):
        for entry in fields(part):
            value = getattr(part, entry.name)
            if entry.name != "config" and value != getattr(plain, entry.name):
                parts.append(f"{entry.name} {value:g}")
    return ", ".join(parts)
