"""Rows cut into blocks for factors that do not fit the device whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shopsight.kernels.rows import Int32, Int64, check_csr


def cut_rows(
    indptr: Int64,
    indices: Int32,
    num_columns: int,
    *,
    row_bytes: int,
    entry_bytes: int,
    column_bytes: int,
    room_bytes: int,
) -> NDArray[np.int64]:
    """Edges int64 [blocks + 1] of blocks of neighbouring rows, each as long as `room_bytes` lets it be.

    A block needs `row_bytes` a row, `entry_bytes` an entry and `column_bytes` for every distinct column of
    its rows. A row that alone needs more than the room is a block of its own. indptr int64 [rows + 1] and
    indices int32 [entries] are a CSR pattern of `num_columns` columns. One pass over the entries, on the CPU.

    Raises TypeError or ValueError naming argument and rule where the pattern is none.
    """
    from shopsight.kernels.cpu import blocks as body

    check_csr(indptr, indices, num_columns, "rows")
    return body.cut(indptr, indices, num_columns, row_bytes, entry_bytes, column_bytes, room_bytes)  # type: ignore[no-any-return]
