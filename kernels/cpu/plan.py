"""Which row of one side is solved how, decided once for all half steps."""

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

    The first `num_dual` of `order` are solved by the dual, by ascending number of entries that weigh, of
    which a row has `most` at most; the rest one by one; the long_rows apart. Costs are nanoseconds about: of
    groups of LANES dual rows, and of the other rows.
    """

    order: Int64
    num_dual: int
    most: int
    dual_costs: Array
    single_costs: Array
    long_rows: long_row.LongRows


def plan_exact(rows: Rows, num_factors: int, use_dual: bool = True) -> Plan:
    """For exact solves: the dual takes rows up to where both forms are equally fast; no negative weight may.

    Much beyond its factors' number the dual of a row would also be less well conditioned than the primal.
    """
    filled, lengths, heavy, negative = _count(rows)
    dual = ~negative & (heavy <= num_factors + num_factors // 8) & use_dual
    size = padded(num_factors)
    split = ~dual & (lengths > long_row.PART)
    by_heavy = np.flatnonzero(dual)[np.argsort(heavy[dual], kind="stable")]
    single = np.flatnonzero(~dual & ~split)
    k = heavy[by_heavy].astype(np.float64)
    costs = 0.012 * k**2 * size + 0.018 * k**3 + (0.25 * size + 5) * k
    costs += (0.08 * size + 3) * (lengths[by_heavy] - k) + 50
    groups = np.arange(0, len(costs), LANES)
    return Plan(
        filled[np.concatenate([by_heavy, single])],
        len(by_heavy),
        int(heavy[by_heavy].max(initial=0)),
        np.add.reduceat(costs, groups) if len(groups) else costs,
        (0.016 * size**2) * heavy[single] + 0.02 * size**3 + 0.25 * size * lengths[single],
        long_row.LongRows(rows, filled[split]),
    )


def plan_cg(rows: Rows) -> Plan:
    """For conjugate gradients: every row one by one but the long_rows."""
    filled, lengths, heavy, _ = _count(rows)
    split = lengths > long_row.PART
    costs = (heavy + 0.2 * (lengths - heavy) + 4.0)[~split]
    return Plan(filled[~split], 0, 0, np.empty(0), costs, long_row.LongRows(rows, filled[split]))


def _count(rows: Rows) -> tuple[Int64, Int64, Int64, Array]:
    """Of rows with entries: numbers, lengths, how many weights are not zero, whether one is negative."""
    lengths = np.diff(rows.indptr)
    filled = np.flatnonzero(lengths)
    if not len(filled):
        return filled, lengths[filled], lengths[filled], np.empty(0, np.bool_)
    starts = rows.indptr[filled]
    heavy = np.add.reduceat(rows.weight != 0, starts, dtype=np.int64)
    return filled, lengths[filled], heavy, np.minimum.reduceat(rows.weight, starts) < 0
