"""Batches of messages of similar length, so that little computation is spent on padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_CHUNK = 20  # batches that are sorted by length together: enough for similar lengths, few enough to be random


def shuffled(lengths: NDArray[np.int64], size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Return every index of `lengths` once, in random batches of at most `size` texts of similar length."""
    order = rng.permutation(len(lengths))
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), size * _CHUNK):
        chunk = order[start : start + size * _CHUNK]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[at : at + size] for at in range(0, len(chunk), size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def in_order(rows: Sequence[Sequence[int]], num_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Yield every index of `rows`, shortest first, in batches of at most `num_tokens` including padding."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    begin = 0
    while begin < len(order):
        ahead = lengths[order[begin : begin + num_tokens]] * np.arange(1, len(order[begin:][:num_tokens]) + 1)
        end = begin + max(1, int(np.searchsorted(ahead, num_tokens, side="right")))
        yield order[begin:end]
        begin = end
