"""Group equal rows: there are few distinct purchase histories, even for many customers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Groups:
    """Distinct rows: the position of the first of each, the number of each, and the group of every row."""

    first: Int64
    count: Int64
    of_row: Int64


def group(*columns: NDArray[Any]) -> Groups:
    """Return the groups of equal rows of numeric columns [n], in ascending order of the columns."""
    key = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        codes, num_codes = _codes(column)
        if len(key) and int(key.max()) + 1 > 2**62 // num_codes:
            key = np.unique(key, return_inverse=True)[1]  # renumber the pairs that occur: no overflow
        key = key * num_codes + codes
    _, first, of_row, count = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    return Groups(first.astype(np.int64), count.astype(np.int64), of_row.reshape(-1).astype(np.int64))


def _codes(column: NDArray[Any]) -> tuple[Int64, int]:
    """Return codes from 0 in the order of the values, int64 [n], and an upper bound of their number."""
    if not len(column):
        return np.zeros(0, dtype=np.int64), 1
    low, high = float(column.min()), float(column.max())
    if high - low < 1e6:
        codes = (column - low).astype(np.int64)
        if np.array_equal(codes + low, column):
            return codes, int(high - low) + 1
    distinct, codes = np.unique(column, return_inverse=True)
    return codes.reshape(-1).astype(np.int64), len(distinct)
