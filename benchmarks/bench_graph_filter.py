"""A polynomial graph filter of blocks of signals against the sparse products of scipy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.datasets import zipf_interactions
from benchmarks.runner import Report, interleave
from shopsight.kernels.graph_filter import graph_filter

SHAPES = ((30_000, 40_000, 800_000, 256), (5_000, 3_000, 500_000, 64))
COEFFICIENTS = (0.0, 1.0, -2.5, 3.125, -2.604, 1.628)


def run(report: Report) -> None:
    """Each shape with five powers of the graph."""
    for num_rows, num_columns, num_entries, num_signals in SHAPES:
        compare(report, num_rows, num_columns, num_entries, num_signals)


def compare(report: Report, num_rows: int, num_columns: int, num_entries: int, num_signals: int) -> None:
    """The row of one shape; both sides keep the matrix of pairs unwritten."""
    matrix = zipf_interactions(num_rows, num_columns, num_entries)
    matrix.sort_indices()
    matrix.data = (matrix.data / np.sqrt(np.float32(matrix.nnz))).astype(np.float32)
    random = np.random.default_rng(0)
    signals = random.standard_normal((num_columns, num_signals), dtype=np.float32)
    indptr, indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
    variants = {
        "ours": lambda: graph_filter(indptr, indices, matrix.data, signals, COEFFICIENTS),
        "scipy": scipy_filter(matrix, signals),
    }
    difference = float(np.abs(variants["ours"]() - variants["scipy"]()).max())
    seconds = interleave(variants, budget_seconds=60)
    report.add_times(
        f"{num_rows} x {num_columns}, {matrix.nnz} entries, {num_signals} signals, 5 powers",
        "scipy",
        seconds["ours"],
        seconds["scipy"],
        rounds=len(seconds["ours"]),
        largest_difference=difference,
    )


def scipy_filter(
    matrix: sparse.csr_matrix, signals: NDArray[np.float32]
) -> Callable[[], NDArray[np.float32]]:
    """Horner's rule over scipy's CSR products."""
    columns = matrix.T.tocsr()

    def apply() -> NDArray[np.float32]:
        found = signals * np.float32(COEFFICIENTS[-1])
        for coefficient in reversed(COEFFICIENTS[:-1]):
            found = columns @ (matrix @ found) + signals * np.float32(coefficient)
        return found

    return apply
