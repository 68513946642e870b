"""Factors for users or items not seen in training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.als import half_step
from kernels.rows import Factors, Rows


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
    spares the pass over all columns when few rows come at a time. The twin that runs beside Triton without
    numba is `kernels.reference.fold_in`.
    """
    return half_step(rows, factors, unobserved_weight, solver="exact", gramian=gramian, backend=backend)
