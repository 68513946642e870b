"""Counted transitions: which items follow which, and after how many steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from shopsight.training.recommend.fading import check_half_life, fading
from shopsight.training.recommend.neighbours.counts import (
    checked_count,
    checked_exponents,
    popularity_factors,
    scaled_rows_and_columns,
)
from shopsight.training.recommend.neighbours.histories import Histories
from shopsight.training.recommend.neighbours.model import ItemToItem
from shopsight.training.recommend.neighbours.selection import strongest

_BLOCK_PAIRS = 4 * 2**20


class Transitions(ItemToItem):
    """The weight of items i and j is t_ij / (n_i^source n_j^target).

    t_ij sums 2^(-(gap - 1) / gap_half_life) over all places where j follows i within `max_gap` steps, and
    `backward` times the same where j precedes i. n_i counts the customers of an item. It is the Markov chain
    of first order with skips that session-based recommenders use as a strong simple method (Ludewig,
    Jannach, 2018, "Evaluation of session-based recommendation algorithms": "sequential rules").

    num_neighbours: how many of the strongest weights of an item are kept. half_life: see ItemToItem.
    """

    def __init__(
        self,
        *,
        gap_half_life: float = 4.0,
        backward: float = 0.3,
        max_gap: int = 20,
        source_exponent: float = 0.5,
        target_exponent: float = 0.0,
        num_neighbours: int = 1000,
        half_life: float = 1.0,
    ) -> None:
        super().__init__(half_life)
        check_half_life(gap_half_life, "gap_half_life")
        if not 0 <= backward < np.inf:
            raise ValueError(f"backward={backward}: must be finite and 0 or above")
        self.gap_half_life, self.backward = gap_half_life, backward
        self.max_gap = checked_count(max_gap, "max_gap")
        self.exponents = checked_exponents(source_exponent, target_exponent)
        self.num_neighbours = checked_count(num_neighbours, "num_neighbours")

    def _learned(self, histories: Histories) -> sparse.csr_matrix:
        by_source, by_target = popularity_factors(histories, *self.exponents)
        longest = int(np.diff(histories.indptr).max(initial=0))
        gaps = np.arange(1, min(self.max_gap, max(longest - 1, 0)) + 1)
        forward = fading(gaps - 1, self.gap_half_life)
        steps, weights = gaps, forward
        if self.backward:
            steps = np.concatenate([gaps, -gaps])
            weights = np.concatenate([forward, np.float32(self.backward) * forward])
        parts = []
        for begin, counts in _pairs(histories, steps, weights):
            rows = slice(begin, begin + counts.shape[0])
            scaled = scaled_rows_and_columns(counts, by_source[rows], by_target)
            parts.append(strongest(scaled, self.num_neighbours))
        return sparse.vstack(parts, format="csr")


def _pairs(
    histories: Histories, steps: NDArray[np.int64], weights: NDArray[np.float32]
) -> Iterator[tuple[int, sparse.csr_matrix]]:
    """Yield (first item, summed weights of pairs), CSR [items of the block, items], for blocks of items.

    A pair is an event and the one `steps` [s] later (earlier, if negative) of the same customer; it counts
    `weights` [s]. Pairs of an item with itself are left out.
    """
    items, num_items = histories.items, histories.num_items
    lengths = np.diff(histories.indptr)
    first, end = np.repeat(histories.indptr[:-1], lengths), np.repeat(histories.indptr[1:], lengths)
    by_item = np.argsort(items, kind="stable")
    offset = np.concatenate([[0], np.cumsum(np.bincount(items, minlength=num_items))])
    for begin, stop in _blocks(offset, max(1, _BLOCK_PAIRS // max(len(steps), 1))):
        events = by_item[offset[begin] : offset[stop]]
        others = events[:, None] + steps
        inside = (others >= first[events][:, None]) & (others < end[events][:, None])
        event, step = np.nonzero(inside)
        source, target = items[events[event]], items[others[event, step]]
        apart = source != target
        cells = (source[apart] - begin, target[apart])
        yield begin, sparse.coo_matrix((weights[step[apart]], cells), (stop - begin, num_items)).tocsr()


def _blocks(offset: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of items of at most `most` events by `offset` [items + 1]; a range has an item or more."""
    begin, num_items = 0, len(offset) - 1
    while begin < num_items:
        stop = int(np.searchsorted(offset, offset[begin] + most, side="right")) - 1
        stop = min(max(stop, begin + 1), num_items)
        yield begin, stop
        begin = stop
