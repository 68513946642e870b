"""Probabilities that mean what they say: two numbers laid over a model's, and how to see that they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit
from threadpoolctl import threadpool_limits

from training.market.experiment import wilson
from training.value.fitting import Array

Bools = NDArray[np.bool_]
_CERTAIN = 1e-6


@dataclass(frozen=True)
class Calibration:
    """p becomes expit(intercept + slope logit(p)); a slope above 0 keeps the order of customers."""

    intercept: float = 0.0
    slope: float = 1.0

    def __call__(self, probability: Array) -> Array:
        """Return calibrated probabilities, float64 [n]."""
        return np.asarray(expit(self.intercept + self.slope * _log_odds(probability)))


def calibrate(probability: Array, happened: Bools) -> Calibration:
    """Fit by maximum likelihood to what happened, both [n].

    Platt (1999), with his targets a little inside of 0 and 1, so that a few customers cannot make anybody
    certain. Without any customer nothing is changed.
    """
    if not len(happened):
        return Calibration()
    odds, num_yes = _log_odds(probability), int(happened.sum())
    yes, no = (num_yes + 1) / (num_yes + 2), 1 / (len(happened) - num_yes + 2)
    target = np.where(happened, yes, no)

    def loss(at: Array) -> tuple[float, Array]:
        slope = float(np.exp(at[1]))
        score = at[0] + slope * odds
        error = expit(score) - target
        value = (np.logaddexp(0.0, score) - target * score).mean()
        return float(value), np.array([error.mean(), slope * (error * odds).mean()])

    with threadpool_limits(1):
        done = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-20, 20), (-4, 4)])
    return Calibration(float(done.x[0]), float(np.exp(done.x[1])))


def reliability(probability: Array, happened: Bools, num_bins: int = 10) -> list[dict[str, Any]]:
    """Return what was said beside what happened, in bins of equally many customers, from low to high.

    Each is {said, happened, low, high, num_customers}: the mean probability, and the share to whom it
    happened with its 95 % Wilson interval.
    """
    bins = []
    for rows in np.array_split(np.argsort(probability, kind="stable"), num_bins):
        if not len(rows):
            continue
        low, high = wilson(int(happened[rows].sum()), len(rows))
        bins.append({
            "said": float(probability[rows].mean()),
            "happened": float(happened[rows].mean()),
            "low": low,
            "high": high,
            "num_customers": len(rows),
        })  # fmt: skip
    return bins


def _log_odds(probability: Array) -> Array:
    return np.asarray(logit(np.clip(probability, _CERTAIN, 1 - _CERTAIN)))
