"""Polynomial graph filters on the CPU: sparse rows times blocks of signals that are contiguous in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from shopsight.kernels.cpu.schedule import run_balanced
from shopsight.kernels.rows import Float32, Int32, Int64


def graph_filter(
    indptr: Int64, indices: Int32, values: Float32, signals: Float32, coefficients: Sequence[float]
) -> Float32:
    """Implement `shopsight.kernels.graph_filter.graph_filter`."""
    columns = transposed(indptr, indices, values, len(signals))
    filtered = signals * np.float32(coefficients[-1])
    by_row = np.empty((len(indptr) - 1, signals.shape[1]), np.float32)
    for coefficient in reversed(coefficients[:-1]):
        _multiply((indptr, indices, values), filtered, by_row)
        _multiply(columns, by_row, filtered)
        filtered += signals * np.float32(coefficient)
    return filtered


def _multiply(matrix: tuple[Int64, Int32, Float32], block: Float32, out: Float32) -> None:
    """Write the product of a CSR matrix and a block [columns, n] to `out` [rows, n]."""
    indptr, indices, values = matrix

    def task(begin: int, end: int) -> None:
        multiply_rows(indptr, indices, values, block, out, begin, end)

    run_balanced(task, np.diff(indptr) + 1)


@njit(nogil=True, cache=True)
def multiply_rows(
    indptr: Int64, indices: Int32, values: Float32, block: Float32, out: Float32, begin: int, end: int
) -> None:
    """Write rows begin..end - 1 of the product of a CSR matrix and `block` [columns, n] to `out`."""
    for row in range(begin, end):
        line = out[row]
        line[:] = np.float32(0)
        for entry in range(indptr[row], indptr[row + 1]):
            value, other = values[entry], block[indices[entry]]
            for place in range(len(line)):
                line[place] += value * other[place]


@njit(nogil=True, cache=True)
def transposed(
    indptr: Int64, indices: Int32, values: Float32, num_columns: int
) -> tuple[Int64, Int32, Float32]:
    """Return the transpose of a CSR matrix in CSR form, rows ascending."""
    offset = np.zeros(num_columns + 1, np.int64)
    for entry in range(len(indices)):
        offset[indices[entry] + 1] += 1
    offset = np.cumsum(offset)
    place = offset[:-1].copy()
    rows, turned = np.empty(len(indices), np.int32), np.empty(len(indices), np.float32)
    for row in range(len(indptr) - 1):
        for entry in range(indptr[row], indptr[row + 1]):
            column = indices[entry]
            rows[place[column]] = row
            turned[place[column]] = values[entry]
            place[column] += 1
    return offset, rows, turned
