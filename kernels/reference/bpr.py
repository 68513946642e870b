"""Bayesian personalised ranking in float64, one interaction after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from shopsight.kernels.reference.passes import Deal, deal, visits

Array = np.ndarray[Any, Any]
NUM_TRIES = 64
LEAST_POOL = 64  # items of a group, from which the negatives of its interactions are drawn
_MASK = (1 << 64) - 1


def mix(value: int) -> int:
    """SplitMix64 (Steele, Lea, Flood 2014): 64 well-mixed bits of a counter."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def unseen_item(dealt: Deal, group: int, seen: Array, key: int) -> int:
    """An item of the group that is not among `seen`, or -1 where there is none; uniform by rejection."""
    items = dealt.items[dealt.item_begin[group] : dealt.item_begin[group + 1]]
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
    """User and item factors after one pass, and how many interactions beat their negative before it."""
    x, y = (np.array(part, dtype=np.float64) for part in factors)
    dealt = deal(len(x), len(y), seed, epoch, LEAST_POOL)
    keep, correct = 1 - rate * regularization, 0
    start = mix((seed * 0x9E3779B97F4A7C15 + epoch) & _MASK)
    for user, position, group in visits(dealt, indptr, indices):
        liked = indices[position]
        seen = indices[indptr[user] : indptr[user + 1]]
        other = unseen_item(dealt, group, seen, (start + int(position) * NUM_TRIES) & _MASK)
        if other < 0:
            continue
        margin = x[user] @ (y[liked] - y[other])
        step = rate / (1 + np.exp(margin))
        correct += bool(margin > 0)
        before = x[user].copy()
        x[user] = keep * x[user] + step * (y[liked] - y[other])
        y[liked] = keep * y[liked] + step * before
        y[other] = keep * y[other] - step * before
    return (x, y), correct
