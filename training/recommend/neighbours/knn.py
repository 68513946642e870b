"""Item neighbours: items that the same customers have."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from shopsight.training.recommend.fading import check_half_life
from shopsight.training.recommend.neighbours.counts import (
    checked_count,
    checked_exponents,
    common_customers,
    popularity_factors,
    scaled_rows_and_columns,
)
from shopsight.training.recommend.neighbours.histories import Histories
from shopsight.training.recommend.neighbours.model import ItemToItem
from shopsight.training.recommend.neighbours.selection import strongest


class ItemKNN(ItemToItem):
    """The weight of items i and j is c_ij / (n_i^source n_j^target).

    c_ij sums the products of both items' weights over customers, n_i counts the customers of an item. Source
    exponent and target exponent .5 give the cosine (Deshpande, Karypis, 2004, "Item-based top-N
    recommendation algorithms"); a lower target exponent favours popular items.

    num_neighbours: how many of the strongest weights of an item are kept. fit_half_life: in steps, of the
    histories that are learned from. half_life: see ItemToItem.
    """

    def __init__(
        self,
        *,
        source_exponent: float = 0.3,
        target_exponent: float = 0.3,
        num_neighbours: int = 1000,
        fit_half_life: float = np.inf,
        half_life: float = 1.5,
    ) -> None:
        super().__init__(half_life)
        check_half_life(fit_half_life, "fit_half_life")
        self.fit_half_life = fit_half_life
        self.exponents = checked_exponents(source_exponent, target_exponent)
        self.num_neighbours = checked_count(num_neighbours, "num_neighbours")

    def _learned(self, histories: Histories) -> sparse.csr_matrix:
        by_source, by_target = popularity_factors(histories, *self.exponents)
        parts = []
        for begin, counts in common_customers(histories.weights(self.fit_half_life)):
            rows = slice(begin, begin + counts.shape[0])
            scaled = scaled_rows_and_columns(counts, by_source[rows], by_target)
            parts.append(strongest(scaled, self.num_neighbours))
        return sparse.vstack(parts, format="csr")
