"""Rotate factors into the eigenbasis of their Gramian, where the part that all rows share is diagonal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shopsight.kernels.cpu.schedule import one_blas_thread, run_balanced
from shopsight.kernels.cpu.vector import WIDTH
from shopsight.kernels.rows import Factors, Float32

Float64 = NDArray[np.float64]
_BLOCK_ROWS = 1024


def padded(num_factors: int) -> int:
    """Return the number of factors rounded up to a multiple of the vector code's WIDTH."""
    return -(-num_factors // WIDTH) * WIDTH


def multiply(x: Float32, square: Float32) -> Float32:
    """Return x @ square, float32 [rows, columns], computed in blocks of rows on our own threads.

    The blocks do not depend on the number of threads, and so every bit is the same. OpenBLAS's threads are
    not used: idle, they would spin after a call and take a core from the rows that follow.
    """
    product = np.empty((len(x), square.shape[1]), np.float32)
    starts = range(0, len(x), _BLOCK_ROWS)

    def task(first: int, last: int) -> None:
        for start in starts[first:last]:
            rows = slice(start, start + _BLOCK_ROWS)
            np.matmul(x[rows], square, out=product[rows])

    with one_blas_thread():
        run_balanced(task, np.ones(len(starts)))
    return product


def gramian_of(y: Float32) -> Float64:
    """Return yᵀy, float64 [f, f], of y float32 [rows, f]: float32 products of blocks, summed in float64."""
    starts = range(0, len(y), _BLOCK_ROWS)
    parts = np.empty((len(starts), y.shape[1], y.shape[1]), np.float32)

    def task(first: int, last: int) -> None:
        for number in range(first, last):
            block = y[starts[number] : starts[number] + _BLOCK_ROWS]
            with np.errstate(over="ignore", invalid="ignore"):  # the caller checks that the result is finite
                np.matmul(block.T, block, out=parts[number])

    with one_blas_thread():
        run_balanced(task, np.ones(len(starts)))
    return np.asarray(parts.sum(axis=0, dtype=np.float64))


def rotate_to_eigenbasis(
    factors: Factors, unobserved_weight: float, gramian: Float64 | None
) -> tuple[Float32, Float32, Float32]:
    """Return the factors in their Gramian's eigenbasis [columns, size], and the results of `eigenbasis`."""
    y = factors.astype(np.float32, copy=False)
    if gramian is None and unobserved_weight:
        gramian = gramian_of(y)
    basis, spectrum = eigenbasis(gramian, unobserved_weight, y.shape[1])
    return multiply(y, basis), basis, spectrum


def eigenbasis(
    gramian: Float64 | None, unobserved_weight: float, num_factors: int
) -> tuple[Float32, Float32]:
    """Return Q float32 [f, size] and the diagonal of unobserved_weight·QᵀGQ float32 [size], G the Gramian.

    Q is padded with zeros and the diagonal with ones. With a weight of 0, Q is the identity and no Gramian is
    needed.
    """
    size = padded(num_factors)
    basis, spectrum = np.zeros((num_factors, size), np.float32), np.ones(size, np.float32)
    if gramian is None or unobserved_weight == 0:
        basis[:, :num_factors], spectrum[:num_factors] = np.eye(num_factors), 0
        return basis, spectrum
    with one_blas_thread():  # small problems: OpenBLAS's second thread would only wait
        values, vectors = np.linalg.eigh(gramian)
    basis[:, :num_factors] = vectors
    spectrum[:num_factors] = unobserved_weight * np.maximum(values, 0)
    return basis, spectrum
