"""What leaks are worth: the figure of the clean split beside that of a leaky one, for the same users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack

from shopsight.training.evaluation.bootstrap import interval
from shopsight.training.evaluation.ranking import Bool, Float64, Int, distinct

Model = TypeVar("Model")


def leak_worth(
    clean: Model,
    fit: Callable[[csr_matrix], Model],
    rank: Callable[[Model, NDArray[np.int64], csr_matrix | None, Bool], Int],
    figure: Callable[[Int, csr_matrix], Float64],
    *,
    past: csr_matrix,
    whole: csr_matrix,
    relevant: csr_matrix,
    available: Bool,
    seed: int,
    num_resamples: int = 500,
) -> dict[str, dict[str, Any]]:
    """Return {clean, leaky, worth} for leaks of time, of future items and of repeated interactions.

    Args:
        clean: the model fitted to `past`. fit: fits the same model to a matrix. rank: (model, users, hidden,
        may) to lists, int [users, k]; hidden: CSR [users, items] to leave out or None;
            may: bool [items], what may be listed.
        figure: a function of ranking.py, such as ndcg_at_k.
        past, whole: CSR [users, items], training data before the cut, and with the test window.
        relevant: CSR [users, items], the items of the window. available: bool [items], on sale at the cut.

    The clean figure ranks what is on sale at the cut and was not met before, and counts new items alone. The
    leaks:

    - time: the model has seen what half of the customers did in the window; the other half is judged.
    - future_items: only items that occur in the window are ranked, so the catalogue is that of the future.
    - repeats: items that the customer met before are ranked and counted.

    Each figure is {value, low, high} over the same customers, and `worth` is leaky - clean of each, with its
    interval. Figures are undefined where nobody can be judged. Raises ValueError for matrices of unequal
    shape.
    """
    shapes = {"past": past.shape, "whole": whole.shape, "relevant": relevant.shape}
    if len(set(shapes.values())) > 1 or available.shape != past.shape[1:]:
        raise ValueError(f"{shapes}, available {available.shape}: must be of the same users and items")
    relevant = distinct(relevant)
    new = _without(relevant, past)
    users = np.flatnonzero((np.diff(new.indptr) > 0) & (np.diff(past.indptr) > 0))
    draws = {"seed": seed, "num_resamples": num_resamples}

    def judged(model: Model, who: NDArray[np.int64], wanted: csr_matrix, may: Bool, hide: bool) -> Float64:
        if not len(who):
            return np.empty(0)
        return figure(rank(model, who, past[who] if hide else None, may), wanted[who])

    def beside(values: Float64, leaky: Float64) -> dict[str, Any]:
        named = {"clean": values, "leaky": leaky, "worth": leaky - values}
        return {name: interval(one, **draws) for name, one in named.items()}

    values = judged(clean, users, new, available, True)
    in_window = np.bincount(relevant.indices, minlength=relevant.shape[1]) > 0
    mine = np.zeros(past.shape[0], dtype=bool)
    half = np.zeros(len(users), dtype=bool)
    half[np.random.default_rng(seed).permutation(len(users))[: (len(users) + 1) // 2]] = True
    mine[users[half]] = True
    knowing = fit(_rows_of(past, whole, mine)) if len(users) else clean
    return {
        "time": beside(values[half], judged(knowing, users[half], new, available, True)),
        "future_items": beside(values, judged(clean, users, new, in_window, True)),
        "repeats": beside(values, judged(clean, users, relevant, available, False)),
    }


def _rows_of(past: csr_matrix, whole: csr_matrix, from_past: Bool) -> csr_matrix:
    """Return the rows of `past` where bool [users] says so, else those of `whole`."""
    both = vstack([past, whole], format="csr")
    rows = np.arange(past.shape[0])
    return both[np.where(from_past, rows, rows + past.shape[0])]


def _without(relevant: csr_matrix, past: csr_matrix) -> csr_matrix:
    """Return the entries of `relevant` that `past` does not have."""
    met = relevant.multiply(past.astype(bool))
    kept = csr_matrix(relevant.astype(bool) > met.astype(bool))
    kept.eliminate_zeros()
    return kept
