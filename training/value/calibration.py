"""Probabilities that mean what they say: a few numbers laid over a model's, and how to see that they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit
from threadpoolctl import threadpool_limits

from shopsight.training.evaluation.proportions import wilson
from shopsight.training.value.fitting import Array

Bools = NDArray[np.bool_]
_CERTAIN = 1e-6
_RIDGE = 1.0  # a normal prior on the tone, of standard deviation 1


@dataclass(frozen=True)
class Calibration:
    """p becomes expit(intercept + slope logit(p) + tone recent_tone); a slope above 0 keeps the order of
    customers.

    recent_tone is how customers sounded of late (recent_tone.py); tone 0 takes no notice of it.
    """

    intercept: float = 0.0
    slope: float = 1.0
    tone: float = 0.0

    def __call__(self, probability: Array, recent_tone: Array | None = None) -> Array:
        """Return calibrated probabilities, float64 [n]."""
        said = 0.0 if recent_tone is None else self.tone * recent_tone
        return np.asarray(expit(self.intercept + self.slope * _log_odds(probability) + said))


def calibrate(probability: Array, happened: Bools, recent_tone: Array | None = None) -> Calibration:
    """Fit by maximum likelihood to what happened, all [n].

    Platt (1999), with his targets a little inside of 0 and 1, so that a few customers cannot make anybody
    certain; a ridge does the same for the tone. Without any customer nothing is changed.
    """
    if not len(happened):
        return Calibration()
    odds, num_yes = _log_odds(probability), int(happened.sum())
    yes, no = (num_yes + 1) / (num_yes + 2), 1 / (len(happened) - num_yes + 2)
    target = np.where(happened, yes, no)
    tones = np.zeros(len(odds)) if recent_tone is None else recent_tone
    ridge = _RIDGE / len(odds)

    def loss(at: Array) -> tuple[float, Array]:
        slope = float(np.exp(at[1]))
        score = at[0] + slope * odds + at[2] * tones
        error = expit(score) - target
        value = (np.logaddexp(0.0, score) - target * score).mean() + ridge * at[2] ** 2 / 2
        steps = [error.mean(), slope * (error * odds).mean(), (error * tones).mean() + ridge * at[2]]
        return float(value), np.array(steps)

    bounds = [(-20, 20), (-4, 4), (-20, 20)]
    with threadpool_limits(1):
        done = minimize(loss, np.zeros(3), jac=True, method="L-BFGS-B", bounds=bounds)
    return Calibration(float(done.x[0]), float(np.exp(done.x[1])), float(done.x[2]))


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
