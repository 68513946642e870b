"""Bayesian personalised ranking in float64, one interaction after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from shopsight.kernels.reference.passes import Partition, draw_partition, visits

Array = np.ndarray[Any, Any]
NUM_TRIES = 64
MIN_POOL = 64  # items of a group, from which the negatives of its interactions are sampled
_MASK = (1 << 64) - 1


def mix(value: int) -> int:
    """Return 64 pseudo-random bits for a counter, by SplitMix64 (Steele, Lea, Flood, 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def unseen_item(partition: Partition, group: int, seen: Array, key: int) -> int:
    """Return an item of the group that is not in `seen`, uniform by rejection, or -1 if there is none."""
    items = partition.items[partition.item_begin[group] : partition.item_begin[group + 1]]
    for attempt in range(NUM_TRIES if len(items) else 0):
        item = items[((mix((key + attempt) & _MASK) >> 32) * len(items)) >> 32]
        if item not in seen:
            return int(item)
    return next((int(item) for item in items if item not in seen), -1)


def run_pass(
    indptr: Array,
    indices: Array,
    factors: tuple[Array, Array],
    rate: float,
    regularization: float,
    seed: int,
    epoch: int,
) -> tuple[tuple[Array, Array], int]:
    """Return (user factors, item factors) float64 after one pass, and the number of correctly ranked pairs.

    A pair is correct if the interaction scored above its negative item before the step.
    """
    x, y = (np.array(part, dtype=np.float64) for part in factors)
    partition = draw_partition(len(x), len(y), seed, epoch, MIN_POOL)
    keep, correct = 1 - rate * regularization, 0
    start = mix((seed * 0x9E3779B97F4A7C15 + epoch) & _MASK)
    for user, position, group in visits(partition, indptr, indices):
        positive = indices[position]
        seen = indices[indptr[user] : indptr[user + 1]]
        negative = unseen_item(partition, group, seen, (start + int(position) * NUM_TRIES) & _MASK)
        if negative < 0:
            continue
        margin = x[user] @ (y[positive] - y[negative])
        step = rate / (1 + np.exp(margin))
        correct += bool(margin > 0)
        before = x[user].copy()
        x[user] = keep * x[user] + step * (y[positive] - y[negative])
        y[positive] = keep * y[positive] + step * before
        y[negative] = keep * y[negative] - step * before
    return (x, y), correct
