"""Fold-in: factors for users or items that were not part of the training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shopsight.kernels.als import check_solved, half_step
from shopsight.kernels.conditioning import HardRows
from shopsight.kernels.dispatch import body
from shopsight.kernels.rows import Factors, Rows, check_array, check_at_least, check_factors, check_rows


def fold_in(
    rows: Rows,
    factors: Factors,
    unobserved_weight: float,
    *,
    gramian: NDArray[np.float64] | None = None,
    backend: str = "auto",
) -> Factors:
    """Return the factors [rows, f] of new rows by one exact half step of ALS, in the dtype of `factors`.

    Shapes, dtypes and errors are those of `kernels.als.half_step`. With `gramian` (factorsᵀ·factors, float64
    [f, f]) the pass over all columns is saved. `FoldIn` also saves the rotation of the factors, for callers
    that fold in rows repeatedly. `shopsight.kernels.reference.fold_in` does the same beside Triton, without
    numba.
    """
    return half_step(rows, factors, unobserved_weight, solver="exact", gramian=gramian, backend=backend)


class FoldIn:
    """Fold-in against factors that are kept on the backend, in the eigenbasis of their Gramian.

    They take columns · f floats of memory there, and as much on the host for rows that need float64. A call
    neither copies the factors nor passes over all of them: it costs what its rows cost. `factors` is copied,
    so that later changes of it have no effect.
    """

    def __init__(
        self,
        factors: Factors,
        unobserved_weight: float,
        *,
        gramian: NDArray[np.float64] | None = None,
        backend: str = "auto",
    ) -> None:
        """Take the arguments of `shopsight.kernels.als.half_step`, and raise what it raises about them."""
        check_factors(factors)
        check_at_least(unobserved_weight, 0, "unobserved_weight")
        if gramian is not None:
            check_array(gramian, np.float64, (factors.shape[1],) * 2, "gramian")
        self._num_columns = len(factors)
        self._hard = HardRows(factors.copy(), unobserved_weight, gramian)
        self._kept = body("fold_in", backend).KeptFactors(factors, unobserved_weight, gramian)

    def solve(self, rows: Rows) -> Factors:
        """Return the factors [rows, f] of `rows`, in the dtype of `factors`; raises what `fold_in` raises."""
        check_rows(rows, self._num_columns)
        return self._hard.solved(rows, check_solved(self._kept.solve(rows)))
