"""Top-k retrieval: score, filter and select the best items of each user in one pass."""

from __future__ import annotations

import numpy as np

from shopsight.kernels.dispatch import body
from shopsight.kernels.rows import Factors, Float32, Int32, Int64, check_csr, check_factors


def topk(
    user_factors: Factors,
    item_factors: Factors,
    k: int,
    *,
    exclude_indptr: Int64 | None = None,
    exclude_indices: Int32 | None = None,
    exclude_items: Int32 | None = None,
    backend: str = "auto",
) -> tuple[Int32, Float32]:
    """Return item indices int32 [users, k] and scores float32 [users, k], by descending score.

    Args:
        user_factors: float32, float16 or bfloat16 [users, f].
        item_factors: the same dtype, [items, f].
        k: 1 to the number of items.
        exclude_indptr, exclude_indices: CSR pattern [users, items], int64 and int32, ascending within a row:
            the items to leave out for each user, usually those the user has seen.
        exclude_items: int32 [n], the items to leave out for all users, in any order.
        backend: "auto", "cpu" or "cuda".

    A score is the dot product of two rows of factors. The matrix of all scores is never stored. Items of
    equal score come in ascending order of their index. A place for which no item is left has index -1 and
    score -inf.

    Raises TypeError or ValueError naming argument, value and rule, and BackendUnavailable.
    """
    check_factors(user_factors, "user_factors")
    check_factors(item_factors, "item_factors")
    if user_factors.shape[1] != item_factors.shape[1] or user_factors.dtype != item_factors.dtype:
        raise ValueError("user_factors, item_factors: must agree in number of factors and in dtype")
    if not 1 <= k <= len(item_factors):
        raise ValueError(f"k={k}: must lie between 1 and the number of items, {len(item_factors)}")
    if (exclude_indptr is None) != (exclude_indices is None):
        raise ValueError("exclude_indptr, exclude_indices: give both or neither")
    if exclude_indptr is not None and exclude_indices is not None:
        check_csr(exclude_indptr, exclude_indices, len(item_factors), "exclude")
        if len(exclude_indptr) != len(user_factors) + 1:
            raise ValueError(f"exclude.indptr: {len(exclude_indptr) - 1} rows must be {len(user_factors)}")
    if exclude_items is not None:
        _check_items(exclude_items, len(item_factors))
    answer: tuple[Int32, Float32] = body("topk", backend).topk(
        user_factors, item_factors, k, exclude_indptr, exclude_indices, exclude_items
    )
    return answer


def _check_items(items: Int32, num_items: int) -> None:
    if not isinstance(items, np.ndarray) or items.dtype != np.int32 or items.ndim != 1:
        raise TypeError("exclude_items: must be a one-dimensional int32 array")
    if len(items) and not (items.min() >= 0 and items.max() < num_items):
        raise ValueError(f"exclude_items: every item must lie in 0..{num_items - 1}")
