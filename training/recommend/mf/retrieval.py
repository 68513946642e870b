"""Top-k retrieval over blocks of item factors, for items that exceed the device's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import sparse

from shopsight.kernels.backend import resolve
from shopsight.kernels.rows import Factors, Float32, Int32
from shopsight.kernels.topk import topk
from shopsight.training.artifacts.factor_store import FactorStore
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.half_steps import extended
from shopsight.training.recommend.mf.memory import GIB

Blocks = Iterator[tuple[int, Factors]]
_LEAST_ITEMS = 1024


def best_items(
    user_factors: Factors,
    blocks: Blocks,
    num_items: int,
    k: int,
    backend: str,
    *,
    seen: sparse.csr_matrix | None = None,
    exclude_items: Int32 | None = None,
) -> tuple[Int32, Float32]:
    """Return item indices int32 [users, k] and scores float32 [users, k], best first; see `kernels.topk`.

    user_factors is [users, f]. `blocks` yields (first item, factors [items of the block, f]), ascending;
    `seen` is CSR [users, items]. Raises ValueError where k is not in 1..num_items.
    """
    if not 1 <= k <= num_items:
        raise ValueError(f"k={k}: must lie between 1 and the number of items, {num_items}")
    best: tuple[Int32, Float32] | None = None
    for begin, factors in blocks:
        end = begin + len(factors)
        banned = None
        if exclude_items is not None:
            inside = (exclude_items >= begin) & (exclude_items < end)
            banned = exclude_items[inside] - np.int32(begin)
        part = None
        if seen is not None:
            part = seen if len(factors) == num_items else seen[:, begin:end]
        found = topk(
            user_factors,
            factors,
            min(k, len(factors)),
            exclude_indptr=None if part is None else part.indptr.astype(np.int64),
            exclude_indices=None if part is None else part.indices.astype(np.int32),
            exclude_items=banned,
            backend=backend,
        )
        ids = np.where(found[0] < 0, np.int32(-1), found[0] + np.int32(begin))
        best = (ids, found[1]) if best is None else _merged(best, (ids, found[1]), k)
    assert best is not None
    return best


def item_blocks(
    factors: FactorStore,
    config: MFConfig,
    bias: Float32 | None = None,
    transform: Callable[[Factors], Factors] | None = None,
) -> Blocks:
    """Yield blocks of items for `best_items`, a single one if the device can hold all items.

    With `bias` the factors are `extended` by it; with `transform` each block is passed through it.
    """
    num_items = factors.shape[0]
    limit = int(config.memory_limit_gib * GIB) or resolve(config.backend).device_memory_bytes
    row_bytes = (factors.shape[1] + 1) * (2 * factors.dtype.itemsize + 8)
    step = num_items if limit is None else max(_LEAST_ITEMS, min(num_items, limit // 8 // row_bytes))
    for begin in range(0, num_items, step):
        block = factors.array() if step >= num_items else factors.read(begin, begin + step)
        if bias is not None:
            block = extended(block, config, bias[begin : begin + step])
        yield begin, block if transform is None else transform(block)


def directions(factors: Factors) -> Float32:
    """Return each row of factors [n, f] scaled to length 1, float32; zero rows stay zero."""
    y = factors.astype(np.float32)
    y /= np.maximum(np.linalg.norm(y, axis=1, keepdims=True), np.float32(1e-12))
    return y


def _merged(one: tuple[Int32, Float32], other: tuple[Int32, Float32], k: int) -> tuple[Int32, Float32]:
    """Return the best k of both; ties stay in ascending order, because `one` has the earlier items."""
    ids, scores = (np.hstack(pair) for pair in zip(one, other, strict=True))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)
