"""What every model of histories does: score items by the items of a history, and list the best."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self, TypeAlias

import numpy as np
from scipy import sparse

from shopsight.training.recommend.fading import check_half_life
from shopsight.training.recommend.neighbours.histories import Histories
from shopsight.training.recommend.neighbours.selection import Float32, Int32, best_items, popularity_places

ItemWeights: TypeAlias = "sparse.csr_matrix | Float32"
_BLOCK_BYTES = 128 * 2**20  # of the scores of one block of customers, and of their sum before
_CELL_BYTES = 8
_LEAST_WEIGHT = 1e-6  # of an item of the history, the latest having 1


class HistoryModel(ABC):
    """Scores items for any history, also of customers who were not fitted.

    half_life: in steps, of the history that is asked; it may be changed after `fit`.
    """

    num_items: int

    def __init__(self, half_life: float) -> None:
        check_half_life(half_life)
        self.half_life = half_life

    def fit(self, histories: Histories) -> Self:
        """Learn from histories; returns self."""
        self.num_items = histories.num_items
        self._places = popularity_places(histories.popularity())
        self._learn(histories)
        return self

    @abstractmethod
    def _learn(self, histories: Histories) -> None:
        """Keep what `_scores` needs."""

    @abstractmethod
    def _scores(self, asked: sparse.csr_matrix) -> Float32:
        """Return the score of every item for faded histories, CSR to dense, float32 [histories, items]."""

    def scores(self, histories: Histories) -> Float32:
        """Return the score of every item for each history, float32 [histories, items].

        An item without any tie to the history, and every item for an empty history, has 0. Items of the
        history that have faded below a millionth of the latest are left out. Raises ValueError for histories
        of another number of items than were fitted.
        """
        if histories.num_items != self.num_items:
            raise ValueError(
                f"histories: have {histories.num_items} items, and the model was fitted to {self.num_items}"
            )
        asked = histories.weights(self.half_life)
        asked.data[asked.data < _LEAST_WEIGHT] = 0
        asked.eliminate_zeros()
        return self._scores(asked)

    def recommend(
        self,
        histories: Histories,
        k: int = 10,
        *,
        exclude_history: bool = True,
        exclude: sparse.csr_matrix | None = None,
        exclude_items: Int32 | None = None,
    ) -> tuple[Int32, Float32]:
        """Return the best k items of each history, (indices int32 [n, k], scores float32 [n, k]), best first.

        Items with equal scores are ordered by popularity, so an empty history gets the most popular items.
        With `exclude_history` the items of a history are left out, with `exclude`, CSR [histories, items],
        those of its pattern, and with `exclude_items`, int32 [n], these from all lists. Places without an
        item have index -1 and score -inf. Histories are taken in blocks, so that scores never need more than
        128 MiB. Raises ValueError where k is not in 1..items, or `exclude` has another shape, or as `scores`
        does.
        """
        if exclude is not None and exclude.shape != (len(histories), histories.num_items):
            raise ValueError(
                f"exclude: shape {exclude.shape} must be {(len(histories), histories.num_items)}"
            )
        step = max(1, _BLOCK_BYTES // (_CELL_BYTES * histories.num_items))
        ids = np.full((len(histories), k), -1, np.int32)
        values = np.full((len(histories), k), -np.inf, np.float32)
        for begin in range(0, max(len(histories), 1), step):
            part = histories.part(begin, min(begin + step, len(histories)))
            scores = self.scores(part)
            if exclude_history:
                scores[part.customers(), part.items] = -np.inf
            if exclude is not None:
                scores[exclude[begin : begin + len(part)].nonzero()] = -np.inf
            if exclude_items is not None:
                scores[:, exclude_items] = -np.inf
            block = slice(begin, begin + len(part))
            ids[block], values[block] = best_items(scores, k, self._places)
        return ids, values


class ItemToItem(HistoryModel):
    """Scores each item by the sum over a history's items of weight x fading.

    After `fit` the model has item_weights, CSR or dense float32 [items, items]: row i has what item i says
    about the others.
    """

    item_weights: ItemWeights

    def _learn(self, histories: Histories) -> None:
        self.item_weights = self._learned(histories)

    @abstractmethod
    def _learned(self, histories: Histories) -> ItemWeights:
        """Return the weights of pairs of items, [items, items]."""

    def _scores(self, asked: sparse.csr_matrix) -> Float32:
        found = asked @ self.item_weights
        return np.asarray(found.toarray() if sparse.issparse(found) else found, dtype=np.float32)
