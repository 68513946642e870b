"""Paired comparisons of models by the same users, corrected for how many are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopsight.training.evaluation.bootstrap import interval
from shopsight.training.evaluation.undefined import undefined

_BLOCK_CELLS = 1 << 20  # signs that are drawn at a time


@dataclass(frozen=True)
class Comparison:
    """`model` against `other`: difference is {value, low, high} of the mean of model - other.

    num_users: users whom both models have a figure for. p_value: of the paired test alone. adjusted_p_value:
    Holm's, over all comparisons that were asked together; None for both where there is no user.
    """

    model: str
    other: str
    num_users: int
    difference: dict[str, Any]
    p_value: float | None
    adjusted_p_value: float | None


def compare(
    figures: Mapping[str, NDArray[Any]],
    *,
    against: str | None = None,
    seed: int = 0,
    num_resamples: int = 2000,
    num_permutations: int = 9999,
) -> list[Comparison]:
    """Compare models by a figure per user: every pair of them, or each with `against`.

    figures: float [users] by the model's name, the same users in the same order; a pair leaves out users for
    whom either is NaN. Raises ValueError for fewer than two models, for arrays of unequal length, and for an
    `against` that is no model.
    """
    pairs = _pairs(figures, against)
    compared = []
    for model, other in pairs:
        difference = np.asarray(figures[model], np.float64) - np.asarray(figures[other], np.float64)
        difference = difference[~np.isnan(difference)]
        compared.append(
            Comparison(
                model,
                other,
                len(difference),
                interval(difference, seed=seed, num_resamples=num_resamples)
                if len(difference)
                else undefined("no user has a figure of both models"),
                sign_flip_p(difference, seed=seed, num_permutations=num_permutations),
                None,
            )
        )
    tested = [place for place, one in enumerate(compared) if one.p_value is not None]
    adjusted = holm(np.array([compared[place].p_value for place in tested], np.float64))
    for place, p_value in zip(tested, adjusted, strict=True):
        compared[place] = replace(compared[place], adjusted_p_value=float(p_value))
    return compared


def sign_flip_p(difference: NDArray[Any], *, seed: int, num_permutations: int = 9999) -> float | None:
    """Return the two-sided p-value of paired differences [users] with mean 0 (Fisher's randomisation test).

    Under the hypothesis the two models of a user could be exchanged, so each difference may have either sign.
    The result is (1 + permutations at least as far from 0) / (1 + permutations), so never 0; None without a
    difference. Source: Smucker, Allan, Carterette (2007), "A Comparison of Statistical Significance Tests for
    Information Retrieval Evaluation".
    """
    difference = np.asarray(difference, np.float64)
    num_users = len(difference)
    if not num_users:
        return None
    moved = difference[difference != 0]  # a difference of 0 has no sign
    observed = abs(moved.sum()) * (1 - 1e-12)
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK_CELLS // max(1, len(moved)))
    as_far = 0
    for begin in range(0, num_permutations, step):
        num = min(step, num_permutations - begin)
        flipped = rng.integers(0, 2, (num, len(moved)), dtype=np.int8)
        as_far += int((abs(moved.sum() - 2 * (flipped @ moved)) >= observed).sum())
    return (1 + as_far) / (1 + num_permutations)


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values that are corrected for their number, float64 [n], in the order given (Holm, 1979).

    Where the corrected value is at most α, the hypothesis is rejected with a chance of at most α of any false
    rejection among all.
    """
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return adjusted


def _pairs(figures: Mapping[str, NDArray[Any]], against: str | None) -> list[tuple[str, str]]:
    names = list(figures)
    if len(names) < 2:
        raise ValueError(f"figures of {len(names)} model(s): a comparison needs two; add a baseline")
    lengths = {name: len(values) for name, values in figures.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"figures of unequal length ({lengths}): judge all models by the same users")
    if against is None:
        return list(combinations(names, 2))
    if against not in figures:
        raise ValueError(f"against='{against}': there are {', '.join(names)}")
    return [(name, against) for name in names if name != against]
