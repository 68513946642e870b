"""Polynomial filters on the graph of a matrix's columns, without the matrix of pairs of columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shopsight.kernels.dispatch import body
from shopsight.kernels.rows import (
    Float32,
    Int32,
    Int64,
    check_array,
    check_at_least,
    check_csr,
    check_finite,
)


def graph_filter(
    indptr: Int64,
    indices: Int32,
    values: Float32,
    signals: Float32,
    coefficients: Sequence[float],
    *,
    backend: str = "auto",
) -> Float32:
    """Return Σ_k coefficients[k] · P^k · signals, float32 [columns, n], where P = RᵀR.

    Args:
        indptr, indices, values: R in CSR form, int64 [rows + 1], int32 and float32 [entries].
        signals: float32 [columns, n], C-contiguous; each column is one signal on the columns of R.
        coefficients: of the powers of P, from 0 on, at least one.
        backend: "auto", "cpu" or "cuda".

    P is never stored: each power is a product with R and one with its transpose (Horner's rule). Memory
    beside the arguments is that of three matrices of signals and one of [rows, n].

    Raises TypeError or ValueError naming argument, value and rule, and BackendUnavailable.
    """
    if not isinstance(signals, np.ndarray) or signals.ndim != 2:
        raise TypeError("signals: must be a float32 array of two axes, [columns, n]")
    check_array(signals, np.float32, signals.shape, "signals")
    if not signals.flags.c_contiguous:
        raise ValueError("signals: must be C-contiguous; pass np.ascontiguousarray(signals)")
    check_csr(indptr, indices, len(signals), "rows")
    check_array(values, np.float32, (len(indices),), "values")
    check_finite(values, "values")
    check_finite(signals, "signals")
    if not len(coefficients):
        raise ValueError("coefficients: there must be at least one")
    for power, coefficient in enumerate(coefficients):
        check_at_least(abs(coefficient), 0.0, f"coefficients[{power}]")
    filtered: Float32 = body("graph_filter", backend).graph_filter(
        indptr, indices, values, signals, [float(c) for c in coefficients]
    )
    return filtered
