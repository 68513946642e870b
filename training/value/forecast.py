"""Forecasts of each customer within a horizon: purchases, value with an interval, and no purchase at all.

The costly parts depend on few distinct histories: tail probabilities on (frequency, T), the shape of future
spending on (frequency, T, number of priced purchases), and its quantiles on these and on the probability of
being alive. A customer's own spending only scales the quantiles. So the cost grows with the number of
distinct histories, not of customers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv
from threadpoolctl import threadpool_limits

from shopsight.training.value.bgnbd import BGNBD
from shopsight.training.value.fitting import Array
from shopsight.training.value.gamma_gamma import GammaGamma
from shopsight.training.value.grouping import group

_EXACT_COUNTS = 32  # above this, neighbouring numbers of purchases share a node
_NODE_GROWTH = 0.06  # width of a node, relative to the number of purchases
_GRID = 320  # points of the distribution of future spending
_OUTSIDE = 1e-4  # probability left outside of the grid on either side
_DISCOUNT_NODES = 6
_MOST_ROWS = 2**18


@dataclass(frozen=True)
class Forecast:
    """Forecasts, float64 [n], one entry per customer; see `forecast`."""

    alive: Array
    expected_purchases: Array
    no_purchase: Array
    value: Array
    value_low: Array
    value_high: Array


def forecast(
    buying: BGNBD,
    spending: GammaGamma,
    *,
    frequency: NDArray[np.int64],
    recency: Array,
    T: Array,
    num_priced: NDArray[np.int64],
    monetary_value: Array,
    horizon: float,
    interval: float = 0.8,
    discount: float = 0.0,
) -> Forecast:
    """Return the forecasts of each customer's next `horizon` units of time; all arrays are [n].

    num_priced: number of purchases that monetary_value is the mean of; if it is 0, monetary_value is ignored.

    In the result, alive is the probability of being alive; expected_purchases their expected number;
    no_purchase the probability of none; value the expected spending in the unit of monetary_value, discounted
    continuously at the rate `discount` per unit of time. value_low and value_high are the quantiles between
    which spending falls with probability `interval`, discounted alike. They cover chance and the customer's
    unknown rates, but not the error of the fitted parameters.
    """
    histories = group(frequency, recency, T, num_priced)
    distinct = tuple(
        np.asarray(column[histories.first], dtype=np.float64)
        for column in (frequency, recency, T, num_priced)
    )
    # The products are small: BLAS threads would wait for each other more than work.
    with threadpool_limits(1):
        alive, purchases, some, weight, low, high = _by_history(
            buying, spending, distinct, horizon, interval, discount
        )
    row = histories.of_row
    scale = spending.scale(num_priced, monetary_value)
    spend = spending.expected_spend(num_priced, monetary_value)
    return Forecast(
        alive=alive[row],
        expected_purchases=(alive * purchases)[row],
        no_purchase=(1 - alive * some)[row],
        value=(alive * purchases * weight)[row] * spend,
        value_low=(low * weight)[row] * scale,
        value_high=(high * weight)[row] * scale,
    )


def _by_history(
    buying: BGNBD,
    spending: GammaGamma,
    distinct: tuple[Array, ...],
    horizon: float,
    interval: float,
    discount: float,
) -> Array:
    """Return for each distinct history, float64 [6, histories]: the probability of being alive; given alive,
    the expected purchases and the probability of any; the discount of a purchase; low and high quantile of
    spending / (v + total).
    """
    x, t_x, now, priced = distinct
    alive = buying.alive(x, t_x, now)
    purchases, some, weight, low, high = np.empty((5, len(x)))
    for rows in _alike(x, priced):
        times, of = np.unique(now[rows], return_inverse=True)
        tail = buying.alive_tail(x[rows[0]], times, horizon)
        purchases[rows], some[rows] = tail.sum(axis=1)[of], tail[of, 0]
        weight[rows] = _discounted(buying, x[rows[0]], times, horizon, discount)[of]
        grid, below = _distribution(tail, spending, priced[rows[0]])
        for quantile, level in ((low, (1 - interval) / 2), (high, (1 + interval) / 2)):
            # Given alive, the level that leaves the same probability above; below 0 it falls on no purchase.
            quantile[rows] = _inverse(grid, below, of, 1 - (1 - level) / np.maximum(alive[rows], 1e-300))
    return np.stack([alive, purchases, some, weight, low, high])


def _discounted(buying: BGNBD, frequency: float, T: Array, horizon: float, discount: float) -> Array:
    """Return the mean discount factor of a purchase within the horizon, float64 [n]; 1 without discount."""
    if discount == 0:
        return np.ones(len(T))
    nodes, weights = np.polynomial.legendre.leggauss(_DISCOUNT_NODES)
    times = horizon * (nodes + 1) / 2
    # Integration by parts: the discount at the end of the horizon, plus the gain of earlier purchases.
    gained = sum(
        w * horizon / 2 * discount * np.exp(-discount * t) * buying.alive_purchases(frequency, T, t)
        for t, w in zip(times, weights, strict=True)
    )
    in_all = buying.alive_purchases(frequency, T, horizon)
    return np.asarray(np.exp(-discount * horizon) + gained / np.maximum(in_all, 1e-300))


def _alike(frequency: Array, num_priced: Array) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of histories of equal frequency and number of priced purchases, in limited pieces."""
    order = np.lexsort((num_priced, frequency))
    changes = (np.diff(frequency[order]) != 0) | (np.diff(num_priced[order]) != 0)
    for run in np.split(order, np.flatnonzero(changes) + 1) if len(order) else ():
        yield from np.split(run, range(_MOST_ROWS, len(run), _MOST_ROWS))


def _distribution(tail: Array, spending: GammaGamma, num_priced: float) -> tuple[Array, Array]:
    """Return a grid and P(spending / (v + total) <= grid | alive), float64 [n, grid + 1]; grid[0] is 0.

    n purchases of one customer cost (v + total) times a beta-prime of p n and q + p num_priced.
    """
    ends = np.concatenate([tail, np.zeros((len(tail), 1))], axis=1)
    first, last, nodes = _nodes(tail.shape[1])
    weight = ends[:, first - 1] - ends[:, last]
    p, q = spending.p, spending.q + spending.p * num_priced
    low, high = betaincinv(p * nodes[[0, -1]], q, [_OUTSIDE, 1 - _OUTSIDE])
    grid = np.exp(np.linspace(_log_odds(low), _log_odds(high), _GRID))
    share = betainc(p * nodes[:, None], q, grid / (1 + grid))
    nothing = 1 - tail[:, :1]
    return np.append(0.0, grid), np.concatenate([nothing, nothing + weight @ share], axis=1)


def _log_odds(share: float) -> float:
    return float(np.log(max(share, 1e-300)) - np.log(max(1 - share, 1e-15)))


def _nodes(most: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Return first and last numbers of purchases, from 1 to `most`, that share a node, and the nodes."""
    first = [1]
    while first[-1] < most:
        first.append(first[-1] + max(1, int(first[-1] * _NODE_GROWTH) if first[-1] > _EXACT_COUNTS else 1))
    starts = np.array([n for n in first if n <= most], dtype=np.int64)
    ends = np.append(starts[1:] - 1, most)
    return starts, ends, (starts + ends) / 2


def _inverse(grid: Array, below: Array, which: NDArray[np.int64], level: Array) -> Array:
    """Return the inverse of row which[i] of `below` at level[i], linear between grid points, float64 [n]."""
    width = below.shape[1]
    # Shift each row to an interval of its own, so that one sorted sequence can be searched.
    flat = (below + 2.0 * np.arange(len(below))[:, None]).reshape(-1)
    after = np.searchsorted(flat, level + 2.0 * which) - which * width
    right = np.clip(after, 1, width - 1)
    left_p, right_p = below[which, right - 1], below[which, right]
    share = np.clip((level - left_p) / np.maximum(right_p - left_p, 1e-300), 0.0, 1.0)
    found = grid[right - 1] + share * (grid[right] - grid[right - 1])
    return np.where(level <= below[which, 0], 0.0, found)
