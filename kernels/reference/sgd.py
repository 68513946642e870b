"""Matrix factorisation of explicit ratings by gradient descent in float64, one rating after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from shopsight.kernels.reference.passes import draw_partition, visits

Array = np.ndarray[Any, Any]
State = tuple[Array, Array, Array, Array]


def run_pass(
    indptr: Array,
    indices: Array,
    ratings: Array,
    state: State,
    mean: float,
    rates: tuple[float, float, float, float],
    seed: int,
    epoch: int,
) -> tuple[State, float]:
    """Return the state after one pass, float64, and the sum of squared errors, each taken before its step.

    `state`: user factors, item factors, user bias, item bias; `rates`: rate, regularization, bias rate,
    bias regularization.
    """
    x, y, a, b = (np.array(part, dtype=np.float64) for part in state)
    rate, regularization, bias_rate, bias_regularization = rates
    total = 0.0
    for user, position, _ in visits(draw_partition(len(x), len(y), seed, epoch), indptr, indices):
        item = indices[position]
        error = ratings[position] - (mean + a[user] + b[item] + x[user] @ y[item])
        before = x[user].copy()
        x[user] += rate * (error * y[item] - regularization * x[user])
        y[item] += rate * (error * before - regularization * y[item])
        a[user] += bias_rate * (error - bias_regularization * a[user])
        b[item] += bias_rate * (error - bias_regularization * b[item])
        total += error * error
    return (x, y, a, b), total
