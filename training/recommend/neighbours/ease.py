"""EASE on histories: in full for small catalogues, on the closest items of each for large ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from shopsight.training.evaluation.baselines import inverse_of_gramian
from shopsight.training.recommend.fading import check_half_life
from shopsight.training.recommend.neighbours.counts import checked_count, common_customers
from shopsight.training.recommend.neighbours.histories import Histories
from shopsight.training.recommend.neighbours.model import ItemToItem, ItemWeights
from shopsight.training.recommend.neighbours.selection import Float32, strongest

MOST_ITEMS_IN_FULL = 20_000  # a square float32 matrix of them takes 1.5 GiB
_COLUMNS = 1024


class EASE(ItemToItem):
    """A ridge regression of each item on the others (Steck, 2019, "Embarrassingly Shallow Autoencoders").

    Up to 20,000 items each item is regressed on all others, by one inverse of the items' Gramian. Above, or
    where `num_neighbours` is given, item j is regressed on the `num_neighbours` (then 200) items with the
    largest shrunk cosine g_ij / sqrt((g_ii + λ)(g_jj + λ)) alone: the same regression with all other weights
    fixed at 0, exact for a catalogue of no more items (the sparse variant of Steck, 2019, "Markov Random
    Fields for Collaborative Filtering", selects the items for each regression likewise). Then no square
    matrix of the catalogue is ever written.

    regularization: λ. fit_half_life: in steps, of the histories that are learned from. half_life: see
    ItemToItem. `fit` raises ArithmeticError if the Gramian is not positive definite in float32.
    """

    def __init__(
        self,
        *,
        regularization: float = 300.0,
        num_neighbours: int | None = None,
        fit_half_life: float = np.inf,
        half_life: float = 1.5,
    ) -> None:
        super().__init__(half_life)
        check_half_life(fit_half_life, "fit_half_life")
        if not 0 < regularization < np.inf:
            raise ValueError(f"regularization={regularization}: must be finite and above 0")
        if num_neighbours is not None:
            checked_count(num_neighbours, "num_neighbours")
        self.regularization, self.num_neighbours = regularization, num_neighbours
        self.fit_half_life = fit_half_life

    def _learned(self, histories: Histories) -> ItemWeights:
        weights = histories.weights(self.fit_half_life)
        if self.num_neighbours is None and histories.num_items <= MOST_ITEMS_IN_FULL:
            return _full(weights, self.regularization)
        return _sparse(weights, self.regularization, self.num_neighbours or 200)


def _full(weights: sparse.csr_matrix, regularization: float) -> Float32:
    """Return -P / diag(P) with a zero diagonal, float32 [items, items], where P = (XᵀX + λI)⁻¹."""
    inverse = inverse_of_gramian(weights.T.tocsr(), regularization)
    scale = -inverse.diagonal().copy()
    for begin in range(0, len(inverse), _COLUMNS):
        inverse[begin : begin + _COLUMNS] /= scale
    inverse[np.diag_indices(len(inverse))] = 0
    return inverse


def _sparse(weights: sparse.csr_matrix, regularization: float, num_neighbours: int) -> sparse.csr_matrix:
    """Return the weights of each item's regression on its closest items, CSR float32 [items, items]."""
    exact = weights.astype(np.float64)
    columns = exact.tocsc()
    scale = 1 / np.sqrt(np.asarray(exact.multiply(exact).sum(axis=0)).ravel() + regularization)
    chosen, solved = [], []
    for begin, common in common_customers(exact):
        likeness = common.copy()
        likeness.data = common.data * scale[common.indices]  # the item's own factor changes no order
        closest = strongest(likeness, num_neighbours)
        for row in range(common.shape[0]):
            near = closest.indices[closest.indptr[row] : closest.indptr[row + 1]]
            chosen.append(near)
            solved.append(_regression(columns, begin + row, near, regularization))
    indptr = np.concatenate([[0], np.cumsum([len(near) for near in chosen])])
    of_targets = sparse.csr_matrix(
        (np.concatenate(solved).astype(np.float32), np.concatenate(chosen), indptr),
        (weights.shape[1], weights.shape[1]),
    )
    return of_targets.T.tocsr()


def _regression(
    columns: sparse.csc_matrix, item: int, near: NDArray[np.int32], regularization: float
) -> NDArray[np.float64]:
    """Return the ridge regression of one column on the columns `near`, float64 [near]."""
    if not len(near):
        return np.zeros(0)
    predictors = columns[:, near]
    square = (predictors.T @ predictors).toarray()
    square[np.diag_indices(len(near))] += regularization
    wanted = (predictors.T @ columns[:, [item]]).toarray().ravel()
    return np.asarray(linalg.solve(square, wanted, assume_a="pos", overwrite_a=True, check_finite=False))
