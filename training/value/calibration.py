"""Calibration of the probability of churn (Platt scaling), and reliability tables."""

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
_RIDGE = 1.0  # precision of the normal prior on `tone`


@dataclass(frozen=True)
class Calibration:
    """Maps p to expit(intercept + slope logit(p) + tone recent_tone).

    A slope above 0 keeps the order of customers. recent_tone is the tone of a customer's recent messages
    (recent_tone.py); with tone = 0 it has no effect.
    """

    intercept: float = 0.0
    slope: float = 1.0
    tone: float = 0.0

    def __call__(self, probability: Array, recent_tone: Array | None = None) -> Array:
        """Return calibrated probabilities, float64 [n], of probabilities and tones float64 [n]."""
        shift = 0.0 if recent_tone is None else self.tone * recent_tone
        return np.asarray(expit(self.intercept + self.slope * _log_odds(probability) + shift))


def calibrate(probability: Array, happened: Bools, recent_tone: Array | None = None) -> Calibration:
    """Return the calibration fitted by maximum likelihood to what happened; all arguments are [n].

    This is Platt scaling with Platt's targets slightly inside of 0 and 1, so that few customers cannot lead
    to certainty; a ridge penalty does the same for the tone. Without customers the calibration is the
    identity. Source: Platt (1999), "Probabilistic Outputs for Support Vector Machines".
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
    """Return forecast against observed frequency, in bins of equally many customers, by ascending forecast.

    probability float64 [n], happened bool [n]. Each bin is {said, happened, low, high, num_customers}: the
    mean forecast probability, and the observed share with its 95 % Wilson interval.
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
