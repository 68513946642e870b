"""Qualities of ranked lists beyond accuracy: coverage, novelty, diversity, popularity bias, calibration.

`recommended` is int [users, k] with -1 for an empty place, as in ranking.py; an item that a list names twice
counts once. Figures are one value per user, float64 [users], unless they are properties of all lists
together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import rel_entr

from shopsight.training.evaluation.ranking import (
    Float64,
    Int,
    blocks,
    check_lists,
    distinct,
    first_mentions,
    shares,
)


def coverage(recommended: Int, num_items: int) -> float | None:
    """Return the share of `num_items` that are in any list; None if there is no item or no list.

    num_items: how many could have been recommended. Raises ValueError if the lists hold more.
    """
    if not num_items or not len(recommended):
        return None
    return len(_times_listed(recommended, num_items)) / num_items


def gini(recommended: Int, num_items: int) -> float | None:
    """Return the Gini index of how often each of `num_items` items is recommended; None if nothing is.

    0: all items equally often; near 1: a few items fill all lists. num_items: how many could have been
    recommended. Raises ValueError if the lists hold more.
    """
    times = np.sort(_times_listed(recommended, num_items))
    if not len(times):
        return None
    rank = np.arange(num_items - len(times) + 1, num_items + 1)  # the items that are never listed come first
    return float((2 * rank - num_items - 1) @ times / (num_items * times.sum()))


def novelty(recommended: Int, num_users_of_item: NDArray[Any], num_users: int) -> Float64:
    """Return the mean self-information of each list in bits, -log2(share of users who have the item).

    num_users_of_item: [items], from the training data alone. An item that nobody has counts as had by one
    user. NaN for an empty list. Source: Zhou et al. (2010), "Solving the apparent diversity-accuracy
    dilemma". Raises ValueError if an item has more users than there are, or as `check_lists`.
    """
    _check_popularity(num_users_of_item, num_users)
    return _mean_of(recommended, -np.log2(np.maximum(num_users_of_item, 1) / max(num_users, 1)))


def popularity(recommended: Int, num_users_of_item: NDArray[Any], num_users: int) -> Float64:
    """Return the mean share of users who have the items of each list; NaN for an empty list.

    Arguments and errors are those of `novelty`.
    """
    _check_popularity(num_users_of_item, num_users)
    return _mean_of(recommended, np.asarray(num_users_of_item) / max(num_users, 1))


def popularity_bias(recommended: Int, past: csr_matrix, num_users_of_item: NDArray[Any]) -> Float64:
    """Return how many times as popular a user's list is as what the user had chosen before.

    past: CSR [users, items], the training data of the users of the lists. num_users_of_item: [items], from
    the training data of everybody. Above 1: the list pushes the user towards the popular. NaN for an empty
    list and for a user without a past. Source: Abdollahpouri et al. (2019), "The Unfairness of Popularity
    Bias in Recommendation". Raises ValueError as `check_lists`.
    """
    check_lists(recommended, *past.shape)
    past = distinct(past)
    count = np.asarray(num_users_of_item, dtype=np.float64)
    pattern = csr_matrix((np.ones(past.nnz), past.indices, past.indptr), shape=past.shape)
    chosen = shares(pattern @ count, np.diff(past.indptr))
    return shares(_mean_of(recommended, count), chosen)


def diversity(recommended: Int, item_vectors: NDArray[Any] | csr_matrix) -> Float64:
    """Return 1 - the mean cosine of two different items of each list (intra-list diversity).

    item_vectors: float [items, d], dense or CSR, such as factors or category indicators (`one_hot`). An item
    whose vector is 0 is unlike every other. NaN for a list of fewer than two items. Source: Ziegler et al.
    (2005), "Improving Recommendation Lists Through Topic Diversification". Raises ValueError as
    `check_lists`.
    """
    check_lists(recommended, len(recommended), item_vectors.shape[0])
    unit = csr_matrix(item_vectors, dtype=np.float64)
    length = np.sqrt(unit.multiply(unit).sum(axis=1).A1)
    unit = _scaled_rows(unit, np.divide(1.0, length, out=np.zeros_like(length), where=length > 0))
    of_itself = (length > 0).astype(np.float64)
    result = np.full(len(recommended), np.nan)
    for rows in blocks(len(recommended), recommended.shape[1] * max(1, min(unit.shape[1], 64))):
        listed = _membership(recommended[rows], unit.shape[0])
        total = listed @ unit
        # the sum over pairs of cosines is (|sum of unit vectors|² - the items' own squares) / 2
        of_pairs = total.multiply(total).sum(axis=1).A1 - listed @ of_itself
        size = np.diff(listed.indptr)
        result[rows] = 1 - shares(of_pairs, size * (size - 1))
    return result


def one_hot(category: NDArray[Any]) -> csr_matrix:
    """Return indicators of categories, CSR [items, categories]; category int [items], -1 where unknown."""
    known = np.flatnonzero(category >= 0)
    num_categories = int(category.max(initial=-1)) + 1
    ones = np.ones(len(known))
    return csr_matrix((ones, (known, category[known])), shape=(len(category), num_categories))


def calibration(
    recommended: Int, past: csr_matrix, category: NDArray[Any], *, smoothing: float = 0.01
) -> Float64:
    """Return the divergence KL(p || q) of each list's category shares q from the user's own p, in nats.

    past: CSR [users, items] of weights, whose shares are p. category: int [items], -1 where unknown; such
    items are left out. q is mixed with `smoothing` parts of p, so that a category that the list lacks costs a
    finite amount. 0: the list has the user's own mixture. NaN where either side has no item with a category.
    Source: Steck (2018), "Calibrated Recommendations". Raises ValueError for other than 0 < smoothing < 1, or
    as `check_lists`.
    """
    if not 0 < smoothing < 1:
        raise ValueError(f"smoothing={smoothing}: must be above 0 and below 1")
    check_lists(recommended, *past.shape)
    indicators = one_hot(category)
    result = np.empty(len(recommended))
    for rows in blocks(len(recommended), max(indicators.shape[1], recommended.shape[1])):
        wished = _row_shares((past[rows] @ indicators).toarray())
        listed = _row_shares((_membership(recommended[rows], past.shape[1]) @ indicators).toarray())
        mixed = (1 - smoothing) * listed + smoothing * wished
        result[rows] = rel_entr(wished, mixed).sum(axis=1) if wished.shape[1] else np.nan
    return result


def _row_shares(counts: Float64) -> Float64:
    total = counts.sum(axis=1, keepdims=True)
    undefined = np.full_like(counts, np.nan)
    np.divide(counts, total, out=undefined, where=total > 0)
    return undefined


def _times_listed(recommended: Int, num_items: int) -> NDArray[np.int64]:
    """Return in how many lists each item is that is in any, int64 [items in lists]."""
    times = np.unique(recommended[first_mentions(recommended)], return_counts=True)[1]
    if len(times) > num_items:
        raise ValueError(
            f"recommended holds {len(times)} different items, where num_items is {num_items}; "
            "count all items that could be recommended"
        )
    return times.astype(np.int64)


def _membership(recommended: Int, num_items: int) -> csr_matrix:
    """Return the items of each list once, CSR of ones [users, items]."""
    first = first_mentions(recommended)
    indptr = np.concatenate([[0], np.cumsum(first.sum(axis=1))])
    items = recommended[first]
    return csr_matrix((np.ones(len(items)), items, indptr), shape=(len(recommended), num_items))


def _mean_of(recommended: Int, value: Float64) -> Float64:
    """Return the mean value of the items of each list, float64 [users]; NaN for an empty list."""
    check_lists(recommended, len(recommended), len(value))
    result = np.empty(len(recommended))
    for rows in blocks(*recommended.shape):
        first = first_mentions(recommended[rows])
        result[rows] = shares(np.where(first, value[recommended[rows]], 0.0).sum(axis=1), first.sum(axis=1))
    return result


def _scaled_rows(matrix: csr_matrix, factor: Float64) -> csr_matrix:
    data = matrix.data * np.repeat(factor, np.diff(matrix.indptr))
    return csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _check_popularity(num_users_of_item: NDArray[Any], num_users: int) -> None:
    most = np.max(num_users_of_item, initial=0)
    if most > num_users:
        raise ValueError(
            f"num_users_of_item has {most} users of one item, where num_users is {num_users}; "
            "count each user of an item once"
        )
