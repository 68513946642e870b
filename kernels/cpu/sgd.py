"""Matrix factorisation of explicit ratings by SGD on the CPU, in the order of kernels/reference/passes.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from shopsight.kernels.cpu.descent import FlatFactors, run_phases
from shopsight.kernels.cpu.vector import FAST, dot, sgd_step
from shopsight.kernels.reference.passes import draw_partition
from shopsight.kernels.rows import Factors, Float32, Int32, Int64

Array = np.ndarray[Any, Any]


class SgdTraining:
    """Implements `shopsight.kernels.sgd.train` over ratings, factors and biases in memory."""

    def __init__(
        self,
        indptr: Int64,
        items: Int32,
        ratings: Float32,
        user_factors: Factors,
        item_factors: Factors,
        user_bias: Float32,
        item_bias: Float32,
        mean: float,
    ) -> None:
        self._data = (indptr, items, ratings)
        self._users, self._items = FlatFactors(user_factors), FlatFactors(item_factors)
        self._biases = (user_bias.copy(), item_bias.copy())
        self._mean = np.float32(mean)
        self._squared_error = 0.0

    def run_pass(
        self,
        rate: float,
        regularization: float,
        bias_rate: float,
        bias_regularization: float,
        seed: int,
        epoch: int,
    ) -> None:
        """Take one step for every rating."""
        partition = draw_partition(self._users.num_rows, self._items.num_rows, seed, epoch)
        rates = tuple(np.float32(x) for x in (rate, regularization, bias_rate, bias_regularization))
        state = (self._users.flat, self._items.flat, *self._biases, self._users.size, self._mean)

        def task(group: int, wanted: int) -> float:
            users = partition.users[partition.user_begin[group] : partition.user_begin[group + 1]]
            return float(_descend(users, *self._data, partition.item_group, wanted, *state, *rates))

        self._squared_error = run_phases(task)
        self._users.store()
        self._items.store()

    def squared_error(self) -> float:
        """Return the sum of squared errors of the last pass, each taken before its step."""
        return self._squared_error

    def result(self) -> tuple[Factors, Factors, Float32, Float32]:
        """Return user factors, item factors, user bias and item bias."""
        return self._users.matrix(), self._items.matrix(), *self._biases


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _descend(
    users: Array,
    indptr: Array,
    indices: Array,
    ratings: Array,
    item_group: Array,
    wanted: int,
    x: Array,
    y: Array,
    user_bias: Array,
    item_bias: Array,
    size: int,
    mean: float,
    rate: float,
    regularization: float,
    bias_rate: float,
    bias_regularization: float,
) -> float:
    total = 0.0
    keep = np.float32(1) - rate * regularization
    for user in users:
        for position in range(indptr[user], indptr[user + 1]):
            item = indices[position]
            if item_group[item] != wanted:
                continue
            mine, other = user * size, item * size
            score = dot(x, mine, y, other, size)
            error = ratings[position] - (mean + user_bias[user] + item_bias[item] + score)
            sgd_step(keep, rate * error, x, mine, y, other, size)
            user_bias[user] += bias_rate * (error - bias_regularization * user_bias[user])
            item_bias[item] += bias_rate * (error - bias_regularization * item_bias[item])
            total += error * error
    return total
