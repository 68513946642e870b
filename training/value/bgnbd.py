"""The BG/NBD model of purchases: how often a customer buys while alive, and when they stop.

A customer who is alive buys at a rate of their own, which is gamma(r, alpha) over customers. After each
repeat purchase they stop with a probability of their own, which is beta(a, b) over customers. frequency is
the number of purchases after the first; recency the time from the first purchase to the last; T the time from
the first purchase until now. All times and alpha are in one unit. Source: Fader, Hardie, Lee (2005),
"Counting Your Customers" the Easy Way: An Alternative to the Pareto/NBD Model, Marketing Science 24(2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, digamma, expit, gammaln

from shopsight.training.value.fitting import Array, Estimate, Objective, maximise
from shopsight.training.value.grouping import group

NAMES = ("r", "alpha", "a", "b")
_ROUGH_ROWS = 5_000
_NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class DistinctHistories:
    """Sufficient statistics: distinct (frequency, recency, T) and their customer counts, float64 [rows]."""

    frequency: Array
    recency: Array
    T: Array
    num_customers: Array

    @staticmethod
    def of(frequency: NDArray[Any], recency: Array, T: Array) -> DistinctHistories:
        """Group customers with equal histories."""
        groups = group(frequency, recency, T)
        frequency, recency, T = (_floats(column[groups.first]) for column in (frequency, recency, T))
        return DistinctHistories(frequency, recency, T, _floats(groups.count))

    def rounded(self, num_times: int) -> DistinctHistories:
        """Return histories rounded to a grid of `num_times` times, to find a starting point with."""
        step = float(self.T.max()) / num_times
        columns = self.frequency, np.round(self.recency / step), np.round(self.T / step)
        groups = group(*columns)
        weight = _floats(np.bincount(groups.of_row, weights=self.num_customers))
        frequency, recency, T = (column[groups.first] for column in columns)
        return DistinctHistories(frequency, recency * step, T * step, weight)


@dataclass(frozen=True)
class BGNBD:
    """A fitted model; the parameters are those of the paper, alpha in the unit of the times."""

    r: float
    alpha: float
    a: float
    b: float

    def alive(self, frequency: Array, recency: Array, T: Array) -> Array:
        """Return the probability that each customer is alive, float64 [n]; 1 for those who bought once.

        In this model a customer can stop only after a repeat purchase. All arguments are [n].
        """
        return np.where(frequency > 0, expit(-self._log_odds_stopped(frequency, recency, T)), 1.0)

    def alive_tail(self, frequency: float, T: Array, horizon: float) -> Array:
        """Return P(more than n purchases within `horizon` | alive now), float64 [len(T), num], n from 0.

        All customers have the same frequency. num is so large that the probability left out is below 1e-12.
        The probability is the product of two: that a customer who never stops makes more than n purchases
        (negative binomial), and that this customer does not stop after any of the first n. No terms cancel.
        """
        share = horizon / (self.alpha + T + horizon)
        shape = self.r + frequency
        n = np.arange(self._num_terms(shape, float(share.max(initial=0.0))) + 1, dtype=np.float64)
        chosen = gammaln(shape + n) - gammaln(shape) - gammaln(n + 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            exactly = chosen + n * np.log(share)[:, None] + shape * np.log1p(-share)[:, None]
        would = np.cumsum(np.exp(exactly)[:, :0:-1], axis=1)[:, ::-1]
        both = gammaln(self.a + self.b + frequency) - gammaln(self.a + self.b + frequency + n[:-1])
        goes_on = gammaln(self.b + frequency + n[:-1]) - gammaln(self.b + frequency) + both
        return np.asarray(would * np.exp(goes_on))

    def alive_purchases(self, frequency: float, T: Array, horizon: float) -> Array:
        """Return the expected number of purchases within `horizon` of customers alive now, float64 [len(T)].

        It is the sum of `alive_tail` over n, which equals the paper's formula with the hypergeometric
        function but does not lose accuracy by cancellation near a = 1.
        """
        return np.asarray(self.alive_tail(frequency, T, horizon).sum(axis=1))

    def _num_terms(self, shape: float, share: float) -> int:
        num = 8
        while betainc(num + 1.0, shape, share) > _NEGLIGIBLE:
            num *= 2
        low = num // 2
        while num - low > 1 + num // 16:
            middle = (low + num) // 2
            low, num = (low, middle) if betainc(middle + 1.0, shape, share) <= _NEGLIGIBLE else (middle, num)
        return num

    def _log_odds_stopped(self, frequency: Array, recency: Array, T: Array) -> Array:
        silence = np.log1p((T - recency) / (self.alpha + recency))
        return np.log(self.a / (self.b + np.maximum(frequency, 1.0) - 1)) + (self.r + frequency) * silence


def fit(frequency: NDArray[np.int64], recency: Array, T: Array) -> tuple[BGNBD, Estimate]:
    """Return the model fitted by maximum likelihood to the customers' histories, and the estimate.

    All arrays are [n]; the module explains them. The likelihood of the distinct histories is exact; only the
    starting point is found on rounded ones. Warns with IdentifiabilityWarning if the data do not identify a
    parameter, as when no customer bought twice.
    """
    histories = DistinctHistories.of(frequency, recency, T)
    middle = float(np.average(histories.T, weights=histories.num_customers)) or 1.0
    starts = [(0.5, 0.25 * middle, 0.8, 2.5), (1.0, middle, 1.0, 10.0), (0.2, 0.05 * middle, 0.3, 0.5)]
    rough = None
    if len(histories.T) > _ROUGH_ROWS:
        rough = log_likelihood(histories.rounded(40))
    estimate = maximise(NAMES, log_likelihood(histories), starts, num_customers=len(frequency), rough=rough)
    return BGNBD(**estimate.parameters), estimate


def log_likelihood(histories: DistinctHistories) -> Objective:
    """Return the function that maps (r, alpha, a, b) to the log-likelihood and its gradient.

    Terms that depend on the frequency alone are computed once per frequency, and logarithms of times once per
    distinct time.
    """
    count = histories.num_customers
    total = float(count.sum())
    x, x_of = np.unique(histories.frequency, return_inverse=True)
    x_count = np.bincount(x_of, weights=count)
    times, at = np.unique(np.concatenate([histories.T, histories.recency]), return_inverse=True)
    now, last = at.reshape(2, -1)
    again = np.flatnonzero(histories.frequency > 0)
    now_again, last_again, x_again, count_again = now[again], last[again], x_of[again], count[again]

    def objective(parameters: Array) -> tuple[float, Array]:
        r, alpha, a, b = parameters
        log_time = np.log(alpha + times)
        log_now = log_time[now]
        stays = -(r + histories.frequency) * log_now
        from_x = (
            gammaln(r + x) - gammaln(r) + gammaln(b + x) - gammaln(b) + gammaln(a + b) - gammaln(a + b + x)
        )
        log_stop = np.log(a) - np.log(np.maximum(b + x - 1, 1e-300))
        odds = log_stop[x_again] + (r + x)[x_again] * (log_now[again] - log_time[last_again])
        stopped = expit(odds)
        value = total * r * np.log(alpha) + x_count @ from_x + count @ stays
        value += count_again @ np.logaddexp(0.0, odds)

        weight = count_again * stopped
        by_x = np.bincount(x_again, weights=weight, minlength=len(x))
        shift = weight @ (log_now[again] - log_time[last_again])
        d_r = x_count @ (digamma(r + x) - digamma(r)) + total * np.log(alpha) - count @ log_now + shift
        inverse = 1.0 / (alpha + times)
        rate = (r + x)[x_again]
        d_alpha = total * r / alpha - (count * (r + histories.frequency)) @ inverse[now]
        d_alpha += (weight * rate) @ (inverse[now_again] - inverse[last_again])
        both = digamma(a + b) - digamma(a + b + x)
        d_a = x_count @ both + weight.sum() / a
        d_b = x_count @ (both + digamma(b + x) - digamma(b)) - (by_x[x > 0] / (b + x[x > 0] - 1)).sum()
        return float(value), np.array([d_r, d_alpha, d_a, d_b])

    return objective


def _floats(values: NDArray[Any]) -> Array:
    return np.asarray(values, dtype=np.float64)
