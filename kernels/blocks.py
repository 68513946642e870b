"""Cut rows into blocks, for factors that do not fit into the device's memory as a whole."""

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
    """Return the edges, int64 [blocks + 1], of the longest blocks of neighbouring rows that fit `room_bytes`.

    A block needs `row_bytes` for each row, `entry_bytes` for each entry and `column_bytes` for each distinct
    column of its rows. A row that needs more than `room_bytes` is a block of its own. indptr int64 [rows + 1]
    and indices int32 [entries] are a CSR pattern of `num_columns` columns. Runs on the CPU.

    Raises TypeError or ValueError naming the argument and the rule if the pattern is not CSR.
    """
    from shopsight.kernels.cpu import blocks as body

    check_csr(indptr, indices, num_columns, "rows")
    return body.cut(indptr, indices, num_columns, row_bytes, entry_bytes, column_bytes, room_bytes)  # type: ignore[no-any-return]
