"""Polynomial graph filters on the GPU: cuSPARSE multiplies the sparse matrix and blocks of signals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shopsight.kernels.cuda import runtime


def graph_filter(
    indptr: npt.NDArray[Any],
    indices: npt.NDArray[Any],
    values: npt.NDArray[Any],
    signals: npt.NDArray[Any],
    coefficients: Sequence[float],
) -> npt.NDArray[np.float32]:
    """Implement `shopsight.kernels.graph_filter.graph_filter`."""
    xp = runtime.device().xp
    if xp is np:
        from scipy import sparse
    else:
        from cupyx.scipy import sparse

    shape = (len(indptr) - 1, len(signals))
    parts = (xp.asarray(values), xp.asarray(indices), xp.asarray(indptr))
    rows = sparse.csr_matrix(parts, shape=shape)
    columns = rows.T.tocsr()
    given = xp.asarray(signals)
    filtered = given * np.float32(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        filtered = columns @ (rows @ filtered) + given * np.float32(coefficient)
    found: npt.NDArray[np.float32] = filtered if xp is np else filtered.get()
    return found
