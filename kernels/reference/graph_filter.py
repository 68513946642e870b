"""Polynomial filters on the graph of a matrix's columns, in float64 with the matrix of pairs written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def graph_filter(
    indptr: Array, indices: Array, values: Array, signals: Array, coefficients: Sequence[float]
) -> Array:
    """Return Σ_k coefficients[k] · (RᵀR)^k · signals, float64 [columns, n]; arguments as the public ones."""
    matrix = np.zeros((len(indptr) - 1, len(signals)))
    rows = np.repeat(np.arange(len(matrix)), np.diff(indptr))
    np.add.at(matrix, (rows, indices), values.astype(np.float64))
    pairs = matrix.T @ matrix
    power, total = signals.astype(np.float64), np.zeros(signals.shape)
    for coefficient in coefficients:
        total += coefficient * power
        power = pairs @ power
    return total
