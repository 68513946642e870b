"""The observations of one side of a factorisation, and the argument checks that operations share."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Factors = NDArray[Any]  # in one of STORAGES
STORAGES = ("float32", "float16", "bfloat16")  # bfloat16 comes from ml_dtypes; arithmetic is always float32


class Rows(NamedTuple):
    """The rows to solve for, in CSR form: row r has the entries indptr[r] to indptr[r + 1] - 1.

    Shapes and dtypes: indptr int64 [rows + 1]; indices int32 [entries], ascending within a row (equal
    neighbours are two observations); weight and target float32 [entries]; regularization float32 [rows].

    With y the factors of the other side, the factors x of a row minimise
    `unobserved_weight Σ_all (x·y)² + Σ_entries (weight (x·y)² - 2 target (x·y)) + regularization |x|²`.
    The usual objectives are cases of it:
    Hu, Koren, Volinsky (2008), confidence c: weight = c - unobserved_weight, target = c;
    Rendle et al. (2022, "Revisiting iALS"): weight = target = 1, any unobserved_weight;
    explicit ratings r: weight = 1, target = r, unobserved_weight = 0.
    """

    indptr: Int64
    indices: Int32
    weight: Float32
    target: Float32
    regularization: Float32

    @property
    def num_rows(self) -> int:
        """The number of rows to solve for."""
        return len(self.indptr) - 1


def check_rows(rows: Rows, num_columns: int, name: str = "rows") -> None:
    """Raise TypeError or ValueError, naming argument, value and rule, unless `rows` keeps its contract."""
    check_csr(rows.indptr, rows.indices, num_columns, name)
    for field in ("weight", "target"):
        values = getattr(rows, field)
        check_array(values, np.float32, (len(rows.indices),), f"{name}.{field}")
        check_finite(values, f"{name}.{field}")
    check_array(rows.regularization, np.float32, (rows.num_rows,), f"{name}.regularization")
    check_finite(rows.regularization, f"{name}.regularization")
    if rows.num_rows and rows.regularization.min() < 0:
        row = int(rows.regularization.argmin())
        raise ValueError(f"{name}.regularization[{row}]={rows.regularization[row]}: must not be negative")


def check_csr(indptr: Int64, indices: Int32, num_columns: int, name: str) -> None:
    """Raise unless indptr and indices are a CSR pattern of `num_columns` columns, ascending within rows."""
    if not isinstance(indptr, np.ndarray) or indptr.ndim != 1 or indptr.dtype != np.int64 or not len(indptr):
        raise TypeError(f"{name}.indptr: must be a one-dimensional int64 array of rows + 1 (CSR)")
    if not isinstance(indices, np.ndarray) or indices.ndim != 1 or indices.dtype != np.int32:
        raise TypeError(f"{name}.indices: must be a one-dimensional int32 array (CSR)")
    if indptr[0] != 0 or indptr[-1] != len(indices) or (len(indptr) > 1 and np.diff(indptr).min() < 0):
        raise ValueError(f"{name}.indptr: must rise from 0 to len(indices)={len(indices)} (CSR)")
    if not len(indices):
        return
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or high >= num_columns:
        raise ValueError(f"{name}.indices: {low if low < 0 else high} lies outside 0..{num_columns - 1}")
    falls = np.flatnonzero(indices[1:] < indices[:-1]) + 1
    inside = falls[indptr[np.searchsorted(indptr, falls, side="right") - 1] != falls]
    if len(inside):
        row = int(np.searchsorted(indptr, inside[0], side="right") - 1)
        raise ValueError(f"{name}.indices: row {row} is not ascending; sort each row's indices first")


def check_factors(factors: Factors, name: str = "factors") -> None:
    """Raise unless `factors` is a finite matrix in one of STORAGES, C-contiguous, of at least one column."""
    if not isinstance(factors, np.ndarray) or factors.dtype.name not in STORAGES:
        found = getattr(factors, "dtype", type(factors))
        raise TypeError(f"{name}: must be a {', '.join(STORAGES[:-1])} or {STORAGES[-1]} array, not {found}")
    if factors.ndim != 2 or factors.shape[1] == 0:
        raise ValueError(f"{name}: shape {factors.shape} must be (rows, factors) with at least one factor")
    if not factors.flags.c_contiguous:
        raise ValueError(f"{name}: must be C-contiguous; pass np.ascontiguousarray({name})")
    check_finite(factors, name)


def check_array(values: object, dtype: type, shape: tuple[int, ...], name: str) -> None:
    """Raise unless `values` is an array of exactly this dtype and shape."""
    if not isinstance(values, np.ndarray) or values.dtype != dtype:
        found = getattr(values, "dtype", type(values).__name__)
        raise TypeError(f"{name}: must be a {np.dtype(dtype)} array, not {found}")
    if values.shape != shape:
        raise ValueError(f"{name}: shape {values.shape} must be {shape}")


def check_finite(values: NDArray[np.floating], name: str) -> None:
    """Raise ValueError naming the first NaN or infinite element."""
    # the sum is not finite if an element is not, or if it overflows; the elements are read only then
    if values.size and not np.isfinite(values.sum(dtype=np.float64)):
        where = np.argwhere(~np.isfinite(values))
        if len(where):
            position = tuple(int(i) for i in where[0])
            raise ValueError(f"{name}{list(position)}={values[position]}: must be finite")


def check_at_least(value: float, low: float, name: str) -> None:
    """Raise ValueError unless `value` is finite and at least `low`."""
    if not (np.isfinite(value) and value >= low):
        raise ValueError(f"{name}={value}: must be finite and at least {low}")
