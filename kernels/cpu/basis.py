"""Turning factors into the eigenbasis of their Gramian: what all rows share is diagonal there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shopsight.kernels.cpu.schedule import one_blas_thread, run_balanced
from shopsight.kernels.cpu.vector import WIDTH
from shopsight.kernels.rows import Factors, Float32

Float64 = NDArray[np.float64]
_BLOCK_ROWS = 1024


def padded(num_factors: int) -> int:
    """The next multiple of the vector code's width."""
    return -(-num_factors // WIDTH) * WIDTH


def multiply(x: Float32, square: Float32) -> Float32:
    """x @ square, in blocks of rows on our own threads.

    The blocks are the same for any number of threads, and so is every bit. OpenBLAS's idle threads would go
    on spinning after a call, and take a core from the rows that follow.
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
    """yᵀy, summed in float64 over blocks that BLAS multiplies in float32."""
    starts = range(0, len(y), _BLOCK_ROWS)
    parts = np.empty((len(starts), y.shape[1], y.shape[1]), np.float32)

    def task(first: int, last: int) -> None:
        for number in range(first, last):
            block = y[starts[number] : starts[number] + _BLOCK_ROWS]
            with np.errstate(over="ignore", invalid="ignore"):  # whoever asks sees that it is not finite
                np.matmul(block.T, block, out=parts[number])

    with one_blas_thread():
        run_balanced(task, np.ones(len(starts)))
    return np.asarray(parts.sum(axis=0, dtype=np.float64))


def turned(
    factors: Factors, unobserved_weight: float, gramian: Float64 | None
) -> tuple[Float32, Float32, Float32]:
    """The factors in their Gramian's eigenbasis [columns, size], and what `eigenbasis` gives."""
    y = factors.astype(np.float32, copy=False)
    if gramian is None and unobserved_weight:
        gramian = gramian_of(y)
    basis, spectrum = eigenbasis(gramian, unobserved_weight, y.shape[1])
    return multiply(y, basis), basis, spectrum


def eigenbasis(
    gramian: Float64 | None, unobserved_weight: float, num_factors: int
) -> tuple[Float32, Float32]:
    """Q [f, size] and the diagonal of unobserved_weight·QᵀGQ [size], padded with zeros and ones.

    A weight of 0 needs no Gramian: the factors then stay as they are.
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
