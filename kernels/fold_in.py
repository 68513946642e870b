"""Factors for users or items not seen in training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shopsight.kernels.als import check_solved, half_step
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
    """The factors of new rows, one or many: the exact half step that training takes, on these rows alone.

    Shapes, dtypes and what it raises: `kernels.als.half_step`. `gramian` (factorsᵀ·factors, float64 [f, f])
    spares the pass over all columns. Where rows come again and again, `FoldIn` keeps more than that. The twin
    that runs beside Triton without numba is `shopsight.kernels.reference.fold_in`.
    """
    return half_step(rows, factors, unobserved_weight, solver="exact", gramian=gramian, backend=backend)


class FoldIn:
    """Factors kept on the backend, in their Gramian's eigenbasis, to fold in rows as they come.

    Keeping them takes columns · f floats there. A call costs what its rows cost: it neither copies the
    factors nor passes over them. Later changes of `factors` are not seen.
    """

    def __init__(
        self,
        factors: Factors,
        unobserved_weight: float,
        *,
        gramian: NDArray[np.float64] | None = None,
        backend: str = "auto",
    ) -> None:
        """Arguments and what it raises: `shopsight.kernels.als.half_step`."""
        check_factors(factors)
        check_at_least(unobserved_weight, 0, "unobserved_weight")
        if gramian is not None:
            check_array(gramian, np.float64, (factors.shape[1],) * 2, "gramian")
        self._num_columns = len(factors)
        self._kept = body("fold_in", backend).KeptFactors(factors, unobserved_weight, gramian)

    def solve(self, rows: Rows) -> Factors:
        """The factors of `rows` [rows, f], in the storage type, equal to `fold_in`'s; raises the same."""
        check_rows(rows, self._num_columns)
        return check_solved(self._kept.solve(rows))
