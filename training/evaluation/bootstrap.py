"""Bootstrap intervals of means and of ratios of means, for every figure that is reported."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopsight.training.evaluation.undefined import undefined


def interval(values: NDArray[Any], *, seed: int, num_resamples: int = 500) -> dict[str, Any]:
    """Return {value, low, high}: the mean of `values` [n] with its 95 % percentile bootstrap interval.

    Entries are resampled, so pass one value per customer. NaN entries are left out; if no other entry is
    left, the figure is `undefined`. Source: Efron (1979), "Bootstrap Methods: Another Look at the Jackknife".
    """
    defined = values[~np.isnan(values)]
    if not len(defined):
        return undefined("there is nobody to judge")
    means = resampled_means(defined[:, None], seed=seed, num_resamples=num_resamples)[:, 0]
    return _summary(float(defined.mean()), means)


def ratio_interval(
    values: NDArray[Any], others: NDArray[Any], *, seed: int, num_resamples: int = 500
) -> dict[str, Any]:
    """Return {value, low, high} of mean(values) / mean(others), both resampled by the same entries.

    values and others are float [n], and entries with a NaN in either are left out. The figure is `undefined`
    if there is no entry or `others` are all 0. A resample whose `others` are all 0 counts as infinity; `high`
    is None if it is infinite.
    """
    both = np.stack([values, others], axis=1)
    both = both[~np.isnan(both).any(axis=1)]
    if not len(both):
        return undefined("there is nobody to judge")
    value, base = both.mean(axis=0)
    if not base > 0:
        return undefined("what it is compared with is 0")
    means = resampled_means(both, seed=seed, num_resamples=num_resamples)
    drawn = np.divide(means[:, 0], means[:, 1], out=np.full(len(means), np.inf), where=means[:, 1] > 0)
    return _summary(float(value / base), drawn)


def resampled_means(values: NDArray[Any], *, seed: int, num_resamples: int) -> NDArray[np.float64]:
    """Return the column means of `values` [n, c] over resamples with replacement, float64 [resamples, c].

    Raises ValueError if there is no row.
    """
    rng = np.random.default_rng(seed)
    n = len(values)
    if n == 0:
        raise ValueError("there is nothing to resample")
    means = np.empty((num_resamples, values.shape[1]))
    for draw in range(num_resamples):
        counts = np.bincount(rng.integers(0, n, n), minlength=n)
        means[draw] = counts @ values / n
    return means


def _summary(value: float, draws: NDArray[np.float64]) -> dict[str, Any]:
    low, high = np.quantile(draws, [0.025, 0.975], method="nearest" if np.isinf(draws).any() else "linear")
    return {"value": value, "low": float(low), "high": float(high) if np.isfinite(high) else None}
