"""Bayesian personalised ranking on the CPU, in the order of kernels/reference/passes.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from shopsight.kernels.cpu.descent import FlatFactors, run_phases
from shopsight.kernels.cpu.vector import FAST, bpr_step, dot
from shopsight.kernels.reference.bpr import MIN_POOL, NUM_TRIES, mix
from shopsight.kernels.reference.passes import draw_partition
from shopsight.kernels.rows import Factors, Int32, Int64

Array = np.ndarray[Any, Any]
_MASK = (1 << 64) - 1


class BprTraining:
    """Implements `shopsight.kernels.bpr.train` over interactions and factors in memory."""

    def __init__(self, indptr: Int64, items: Int32, user_factors: Factors, item_factors: Factors) -> None:
        self._data = (indptr, items)
        self._users, self._items = FlatFactors(user_factors), FlatFactors(item_factors)
        self._num_correct = 0

    def run_pass(self, rate: float, regularization: float, seed: int, epoch: int) -> None:
        """Take one step for every interaction, against an item that its user has not seen."""
        partition = draw_partition(self._users.num_rows, self._items.num_rows, seed, epoch, MIN_POOL)
        start = np.uint64(mix((seed * 0x9E3779B97F4A7C15 + epoch) & _MASK))
        state = (self._users.flat, self._items.flat, self._users.size)
        rates = (np.float32(rate), np.float32(1 - rate * regularization))

        def task(group: int, wanted: int) -> float:
            users = partition.users[partition.user_begin[group] : partition.user_begin[group + 1]]
            pool = partition.items[partition.item_begin[wanted] : partition.item_begin[wanted + 1]]
            return float(
                _descend(users, pool, *self._data, partition.item_group, wanted, *state, *rates, start)
            )

        self._num_correct = int(run_phases(task))
        self._users.store()
        self._items.store()

    def num_correct(self) -> int:
        """Return how many interactions of the last pass scored above their negative before the step."""
        return self._num_correct

    def result(self) -> tuple[Factors, Factors]:
        """Return user factors and item factors."""
        return self._users.matrix(), self._items.matrix()


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def _descend(
    users: Array,
    pool: Array,
    indptr: Array,
    indices: Array,
    item_group: Array,
    wanted: int,
    x: Array,
    y: Array,
    size: int,
    rate: float,
    keep: float,
    start: np.uint64,
) -> int:
    correct = 0
    for user in users:
        first, last = indptr[user], indptr[user + 1]
        for position in range(first, last):
            positive = indices[position]
            if item_group[positive] != wanted:
                continue
            negative = _unseen_item(pool, indices[first:last], start + np.uint64(position * NUM_TRIES))
            if negative < 0:
                continue
            user_at, positive_at, negative_at = user * size, positive * size, negative * size
            margin = dot(x, user_at, y, positive_at, size) - dot(x, user_at, y, negative_at, size)
            step = rate / (np.float32(1) + np.exp(margin))
            correct += margin > 0
            bpr_step(keep, step, x, user_at, y, positive_at, y, negative_at, size)
    return correct


@njit(nogil=True, cache=True)
def _unseen_item(pool: Array, seen: Array, key: np.uint64) -> int:
    for attempt in range(NUM_TRIES):
        bits = _mix(key + np.uint64(attempt)) >> np.uint64(32)
        item = pool[(bits * np.uint64(len(pool))) >> np.uint64(32)]
        if not _contains(seen, item):
            return int(item)
    for item in pool:
        if not _contains(seen, item):
            return int(item)
    return -1


@njit(nogil=True, cache=True)
def _contains(ascending: Array, item: int) -> bool:
    low, high = 0, len(ascending)
    while low < high:
        middle = (low + high) >> 1
        if ascending[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low < len(ascending) and ascending[low] == item


@njit(nogil=True, cache=True)
def _mix(value: np.uint64) -> np.uint64:
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
