"""The Gamma-Gamma model of spending per purchase, which shrinks a customer's mean towards the overall mean.

The amount of a purchase is gamma(p, nu), and nu is gamma(q, v) over customers, independent of the frequency.
Sources: Fader, Hardie (2013), "The Gamma-Gamma Model of Monetary Value"; Colombo, Jiang (1999), "A Stochastic
RFM Model".
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
# Logarithms of totals are rounded to this step; within it the log-likelihood is linear to within 1e-6.
_STEP, _ROUGH_STEP = 1 / 512, 1 / 16


@dataclass(frozen=True)
class GammaGamma:
    """A fitted model; v is in the unit of the amounts, and q is above 1, so that mean spending is finite."""

    p: float
    q: float
    v: float

    def expected_spend(self, num_purchases: Numbers, mean_spend: Array) -> Array:
        """Return the expected spending per purchase of each customer, float64 [n].

        num_purchases [n] is the number of purchases that mean_spend [n] is the mean of; with 0 purchases the
        result is the mean over all customers.
        """
        return np.asarray(
            self.p * self.scale(num_purchases, mean_spend) / (self.p * num_purchases + self.q - 1)
        )

    def scale(self, num_purchases: Numbers, mean_spend: Array) -> Array:
        """Return v + total spending, float64 [n]: the scale of the predictive distribution of spending."""
        return np.asarray(self.v + np.where(num_purchases > 0, num_purchases * mean_spend, 0.0))


def fit(num_purchases: NDArray[np.int64], mean_spend: Array) -> tuple[GammaGamma, Estimate]:
    """Return the model fitted by maximum likelihood to customers with a priced purchase, and the estimate.

    num_purchases int64 [n], at least 1; mean_spend float64 [n], above 0. Customers of equal number and equal
    total, to within 0.2 %, are grouped; sums that need no grouping are exact. Warns with
    IdentifiabilityWarning if the data do not identify a parameter.
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
