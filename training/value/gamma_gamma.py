"""Gamma-Gamma: what a customer spends a time, between their own average and everybody's.

Fader, Hardie (2013), The Gamma-Gamma Model of Monetary Value; Colombo, Jiang (1999). What is spent at one
purchase is gamma(p, nu), and nu is gamma(q, v) over customers, whatever the frequency.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, gammaln

from shopsight.training.value.fitting import Array, Estimate, Objective, maximise
from shopsight.training.value.grouping import group

Numbers = Array | NDArray[np.int64]
NAMES = ("p", "q", "v")
# A total's logarithm is kept to this step: within a step the log-likelihood curves by less than 1e-6.
_STEP, _ROUGH_STEP = 1 / 512, 1 / 16


@dataclass(frozen=True)
class GammaGamma:
    """A fitted model; v in the currency of the amounts. q is above 1, or nobody's mean spending is finite."""

    p: float
    q: float
    v: float

    def expected_spend(self, num_purchases: Numbers, mean_spend: Array) -> Array:
        """Return what each customer is expected to spend a purchase, float64 [n].

        num_purchases: how many purchases mean_spend is the mean of; with 0 the answer is everybody's mean.
        """
        return np.asarray(
            self.p * self.scale(num_purchases, mean_spend) / (self.p * num_purchases + self.q - 1)
        )

    def scale(self, num_purchases: Numbers, mean_spend: Array) -> Array:
        """Return v + total spent: what the predictive distribution of future spending is proportional to."""
        return np.asarray(self.v + np.where(num_purchases > 0, num_purchases * mean_spend, 0.0))


def fit(num_purchases: NDArray[np.int64], mean_spend: Array) -> tuple[GammaGamma, Estimate]:
    """Fit by maximum likelihood to customers with at least one priced purchase; arrays [n], spend above 0.

    Customers of equal number and (to 0.2 %) equal total are taken together; sums that need no such rounding
    are exact. Warns with IdentifiabilityWarning when the data cannot tell a parameter.
    """
    typical = float(np.average(mean_spend, weights=num_purchases)) if len(mean_spend) else 1.0
    starts = [(2.0, 3.0, 2.0 * typical), (6.0, 4.0, 0.5 * typical), (0.5, 2.0, typical)]
    estimate = maximise(
        NAMES,
        log_likelihood(num_purchases, mean_spend),
        starts,
        num_customers=len(mean_spend),
        lower=(0.0, 1.0, 0.0),
        rough=log_likelihood(num_purchases, mean_spend, _ROUGH_STEP),
    )
    return GammaGamma(**estimate.parameters), estimate


def log_likelihood(num_purchases: NDArray[np.int64], mean_spend: Array, step: float = _STEP) -> Objective:
    """Return the function that maps (p, q, v) to the log-likelihood of the mean spends, and its gradient."""
    x, x_of = np.unique(num_purchases, return_inverse=True)
    x_count = np.bincount(x_of, minlength=len(x)).astype(np.float64)
    log_mean = np.log(mean_spend)
    total = num_purchases * mean_spend
    sum_log_total = float((num_purchases * (log_mean + np.log(num_purchases))).sum())
    sum_log_mean = float(log_mean.sum())
    groups = group(num_purchases, np.round(np.log(total) / step))
    count = groups.count.astype(np.float64)
    total = np.bincount(groups.of_row, weights=total, minlength=len(count)) / count
    times = num_purchases[groups.first].astype(np.float64)

    def objective(parameters: Array) -> tuple[float, Array]:
        p, q, v = parameters
        px = p * x
        log_sum = np.log(total + v)
        from_x = gammaln(px + q) - gammaln(px) - gammaln(q) + q * np.log(v)
        value = x_count @ from_x + p * sum_log_total - sum_log_mean - (count * (p * times + q)) @ log_sum
        d_x = digamma(px + q)
        d_p = (x_count * x) @ (d_x - digamma(px)) + sum_log_total - (count * times) @ log_sum
        d_q = x_count @ (d_x - digamma(q) + np.log(v)) - count @ log_sum
        d_v = x_count.sum() * q / v - (count * (p * times + q)) @ (1.0 / (total + v))
        return float(value), np.array([d_p, d_q, d_v])

    return objective
