"""Customers who buy as BG/NBD and spend as Gamma-Gamma say, drawn one purchase at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def buyers(
    num: int, rng: np.random.Generator, *, r: float, alpha: float, a: float, b: float, longest: int = 400
) -> tuple[Array, Array, Array]:
    """frequency, recency, T of `num` customers, in whole units of time."""
    T = rng.integers(1, longest + 1, num)
    frequency, recency = np.zeros(num, dtype=np.int64), np.zeros(num, dtype=np.int64)
    for i in range(num):
        rate, stop = rng.gamma(r, 1 / alpha), rng.beta(a, b)
        days, time = set(), 0.0
        while True:
            time += rng.exponential(1 / rate)
            if time > T[i]:
                break
            days.add(int(np.ceil(time)))
            if rng.random() < stop:
                break
        frequency[i], recency[i] = len(days), max(days, default=0)
    return frequency, recency, T


def spending(num_purchases: Array, rng: np.random.Generator, *, p: float, q: float, v: float) -> Array:
    """Mean spending of customers with so many purchases."""
    scale = 1 / rng.gamma(q, 1 / v, len(num_purchases))
    return np.array([rng.gamma(p, s, n).mean() for s, n in zip(scale, num_purchases, strict=True)])
