"""Matrix factorisation of explicit ratings by stochastic gradient descent (SGD)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from shopsight.kernels.dispatch import body
from shopsight.kernels.errors import DivergenceError
from shopsight.kernels.rows import (
    Factors,
    Float32,
    Int32,
    Int64,
    check_array,
    check_at_least,
    check_csr,
    check_factors,
    check_finite,
)

AfterEpoch = Callable[[int, float], bool]


class SgdState(NamedTuple):
    """user_factors [users, f], item_factors [items, f] in a type of STORAGES; float32 biases; mean rating."""

    user_factors: Factors
    item_factors: Factors
    user_bias: Float32
    item_bias: Float32
    mean: float


class Rates(NamedTuple):
    """Step sizes and L2 regularization of factors and of biases, all at least 0."""

    rate: float = 0.01
    regularization: float = 0.05
    bias_rate: float = 0.01
    bias_regularization: float = 0.02


def constant(_: int) -> float:
    """Return 1 for every epoch: the schedule of a constant step size."""
    return 1.0


def inverse(decay: float) -> Callable[[int], float]:
    """Return the schedule 1 / (1 + decay · epoch) (Robbins and Monro, 1951)."""
    return lambda epoch: 1 / (1 + decay * epoch)


def train(
    indptr: Int64,
    indices: Int32,
    ratings: Float32,
    state: SgdState,
    rates: Rates,
    *,
    num_epochs: int,
    schedule: Callable[[int], float] = constant,
    seed: int = 0,
    first_epoch: int = 0,
    after_epoch: AfterEpoch | None = None,
    backend: str = "auto",
) -> SgdState:
    """Return the state after `num_epochs` passes over all ratings, each rating one gradient step.

    Minimises the squared error of `mean + user bias + item bias + x·y`. Shapes: indptr int64 [users + 1] and
    indices int32 [entries] are a CSR matrix [users, items], ascending within a row; ratings is float32
    [entries]. `schedule(epoch)` multiplies both step sizes. `after_epoch(epoch, rmse)` gets the root mean
    squared error, each error taken before its step; training stops when it returns True. On the CPU equal
    seeds give equal bits for any number of threads. On a GPU concurrent updates of one item race, so that
    results differ between calls, and of a user with more than 512 ratings each 512 are taken from where the
    user stood before the pass; the user becomes the mean of where they end (Zinkevich et al. 2010).

    Raises TypeError or ValueError naming argument, value and rule; DivergenceError naming the epoch;
    BackendUnavailable. Sources: Funk (2006), "Netflix Update: Try This at Home"; Koren, Bell, Volinsky
    (2009), "Matrix Factorization Techniques for Recommender Systems"; Gemulla, Nijkamp, Haas, Sismanis
    (2011), "Large-Scale Matrix Factorization with Distributed Stochastic Gradient Descent".
    """
    _check_state(state)
    check_csr(indptr, indices, len(state.item_factors), "ratings")
    if len(indptr) != len(state.user_factors) + 1:
        raise ValueError(f"ratings.indptr: {len(indptr) - 1} rows must be {len(state.user_factors)} users")
    check_array(ratings, np.float32, (len(indices),), "ratings")
    check_finite(ratings, "ratings")
    for name, value in rates._asdict().items():
        check_at_least(value, 0, name)
    training = body("sgd", backend).SgdTraining(indptr, indices, ratings, *state)
    for epoch in range(first_epoch, first_epoch + num_epochs):
        factor = schedule(epoch)
        training.run_pass(
            rates.rate * factor,
            rates.regularization,
            rates.bias_rate * factor,
            rates.bias_regularization,
            seed,
            epoch,
        )
        error = np.sqrt(training.squared_error() / max(1, len(indices)))
        if not np.isfinite(error):
            raise DivergenceError(
                f"the squared error is not finite at epoch {epoch}; lower rate={rates.rate}"
            )
        if after_epoch is not None and after_epoch(epoch, float(error)):
            break
    users, items, user_bias, item_bias = training.result()
    return SgdState(users, items, user_bias, item_bias, state.mean)


def update(state: SgdState, user: int, item: int, rating: float, rates: Rates) -> float:
    """Take one online step for one rating, in place in `state`; returns the error before the step.

    Raises ValueError for an index out of range or a rating that is not finite, and DivergenceError if the
    step is not finite; `state` is then unchanged.
    """
    x, y, user_bias, item_bias, mean = state
    if not (0 <= user < len(x) and 0 <= item < len(y)):
        raise ValueError(f"user={user}, item={item}: must lie in 0..{len(x) - 1} and 0..{len(y) - 1}")
    if not np.isfinite(rating):
        raise ValueError(f"rating={rating}: must be finite")
    before, other = x[user].astype(np.float32), y[item].astype(np.float32)
    error = rating - (mean + float(user_bias[user]) + float(item_bias[item]) + float(before @ other))
    moved = before + rates.rate * (error * other - rates.regularization * before)
    other = other + rates.rate * (error * before - rates.regularization * other)
    if not (np.isfinite(moved).all() and np.isfinite(other).all()):
        raise DivergenceError(f"the step for user {user}, item {item} is not finite; lower rate={rates.rate}")
    x[user], y[item] = moved, other
    user_bias[user] += rates.bias_rate * (error - rates.bias_regularization * user_bias[user])
    item_bias[item] += rates.bias_rate * (error - rates.bias_regularization * item_bias[item])
    return error


def _check_state(state: SgdState) -> None:
    check_factors(state.user_factors, "user_factors")
    check_factors(state.item_factors, "item_factors")
    if state.user_factors.shape[1] != state.item_factors.shape[1]:
        raise ValueError("user_factors, item_factors: must agree in number of factors")
    if state.user_factors.dtype != state.item_factors.dtype:
        raise ValueError("user_factors, item_factors: must agree in dtype")
    check_array(state.user_bias, np.float32, (len(state.user_factors),), "user_bias")
    check_array(state.item_bias, np.float32, (len(state.item_factors),), "item_bias")
    check_finite(state.user_bias, "user_bias")
    check_finite(state.item_bias, "item_bias")
