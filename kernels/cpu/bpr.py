"""Bayesian personalised ranking on the CPU, ordered by kernels/reference/passes.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from shopsight.kernels.cpu.descent import FlatFactors, run_phases
from shopsight.kernels.cpu.vector import FAST, dot, step_apart
from shopsight.kernels.reference.bpr import LEAST_POOL, NUM_TRIES, mix
from shopsight.kernels.reference.passes import deal
from shopsight.kernels.rows import Factors, Int32, Int64

Array = np.ndarray[Any, Any]
_MASK = (1 << 64) - 1


class BprTraining:
    """Interactions and factors; the contract is `shopsight.kernels.bpr.train`."""

    def __init__(self, indptr: Int64, items: Int32, user_factors: Factors, item_factors: Factors) -> None:
        self._data = (indptr, items)
        self._users, self._items = FlatFactors(user_factors), FlatFactors(item_factors)
        self._num_correct = 0

    def run_pass(self, rate: float, regularization: float, seed: int, epoch: int) -> None:
        """One step for every interaction, against an item that its user has not seen."""
        dealt = deal(self._users.num_rows, self._items.num_rows, seed, epoch, LEAST_POOL)
        start = np.uint64(mix((seed * 0x9E3779B97F4A7C15 + epoch) & _MASK))
        state = (self._users.flat, self._items.flat, self._users.size)
        rates = (np.float32(rate), np.float32(1 - rate * regularization))

        def task(group: int, wanted: int) -> float:
            users = dealt.users[dealt.user_begin[group] : dealt.user_begin[group + 1]]
            pool = dealt.items[dealt.item_begin[wanted] : dealt.item_begin[wanted + 1]]
            return float(_descend(users, pool, *self._data, dealt.item_group, wanted, *state, *rates, start))

        self._num_correct = int(run_phases(task))
        self._users.store()
        self._items.store()

    def num_correct(self) -> int:
        """How many interactions of the last pass scored above their negative before the step."""
        return self._num_correct

    def result(self) -> tuple[Factors, Factors]:
        """User factors and item factors."""
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
            liked = indices[position]
            if item_group[liked] != wanted:
                continue
            other = _unseen_item(pool, indices[first:last], start + np.uint64(position * NUM_TRIES))
            if other < 0:
                continue
            mine, at, against = user * size, liked * size, other * size
            margin = dot(x, mine, y, at, size) - dot(x, mine, y, against, size)
            step = rate / (np.float32(1) + np.exp(margin))
            correct += margin > 0
            step_apart(keep, step, x, mine, y, at, y, against, size)
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
