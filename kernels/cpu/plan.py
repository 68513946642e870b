"""Choose the solver of each row of one side, once for all half steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from shopsight.kernels.cpu import long_rows as long_row
from shopsight.kernels.cpu.basis import padded
from shopsight.kernels.cpu.lanes import LANES
from shopsight.kernels.rows import Int64, Rows

Array = np.ndarray[Any, Any]


class Plan(NamedTuple):
    """The rows that have entries, in the order in which they are solved.

    The first `num_dual` rows of `order` are solved by the dual, in ascending number of entries of nonzero
    weight, which is at most `most`. The other rows are solved one by one, and long rows in parts. Costs are
    estimated nanoseconds: of each group of LANES dual rows, and of each single row.
    """

    order: Int64
    num_dual: int
    most: int
    dual_costs: Array
    single_costs: Array
    long_rows: long_row.LongRows


def plan_exact(rows: Rows, num_factors: int, use_dual: bool = True) -> Plan:
    """Return the plan of exact solves: the dual for rows up to the length at which both forms cost the same.

    Rows with a negative weight take the primal. For rows much longer than the number of factors the dual is
    also less well conditioned than the primal.
    """
    filled, lengths, num_weighted, negative = _count(rows)
    dual = ~negative & (num_weighted <= num_factors + num_factors // 8) & use_dual
    size = padded(num_factors)
    split = ~dual & (lengths > long_row.PART)
    by_length = np.flatnonzero(dual)[np.argsort(num_weighted[dual], kind="stable")]
    single = np.flatnonzero(~dual & ~split)
    k = num_weighted[by_length].astype(np.float64)
    costs = 0.012 * k**2 * size + 0.018 * k**3 + (0.25 * size + 5) * k
    costs += (0.08 * size + 3) * (lengths[by_length] - k) + 50
    groups = np.arange(0, len(costs), LANES)
    return Plan(
        filled[np.concatenate([by_length, single])],
        len(by_length),
        int(num_weighted[by_length].max(initial=0)),
        np.add.reduceat(costs, groups) if len(groups) else costs,
        (0.016 * size**2) * num_weighted[single] + 0.02 * size**3 + 0.25 * size * lengths[single],
        long_row.LongRows(rows, filled[split]),
    )


def plan_cg(rows: Rows) -> Plan:
    """Return the plan of conjugate gradients: every row one by one, and long rows in parts."""
    filled, lengths, num_weighted, _ = _count(rows)
    split = lengths > long_row.PART
    costs = (num_weighted + 0.2 * (lengths - num_weighted) + 4.0)[~split]
    return Plan(filled[~split], 0, 0, np.empty(0), costs, long_row.LongRows(rows, filled[split]))


def _count(rows: Rows) -> tuple[Int64, Int64, Int64, Array]:
    """Return of rows with entries: index, length, number of nonzero weights, whether any is negative."""
    lengths = np.diff(rows.indptr)
    filled = np.flatnonzero(lengths)
    if not len(filled):
        return filled, lengths[filled], lengths[filled], np.empty(0, np.bool_)
    starts = rows.indptr[filled]
    num_weighted = np.add.reduceat(rows.weight != 0, starts, dtype=np.int64)
    return filled, lengths[filled], num_weighted, np.minimum.reduceat(rows.weight, starts) < 0
