"""What a factorisation minimises: interactions and settings in, the kernels' rows out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from shopsight.kernels.als import SOLVERS
from shopsight.kernels.rows import STORAGES, Float32, Rows
from shopsight.training.artifacts.plain_settings import take_plain_values


@dataclass(frozen=True)
class MFConfig:
    """Settings of a matrix factorisation; the defaults suit implicit feedback of a shop.

    objective: "observed" (Rendle et al. 2022: every pair has weight `unobserved_weight` and target 0, a seen
        pair weighs its value more, with target 1), "confidence" (Hu et al. 2008: a seen pair weighs its
        value, an unseen one `unobserved_weight`), or "explicit" (squared error of ratings, with biases).
    regularization, regularization_exponent: λ and ν; a row of n entries is held by
        λ (n + unobserved_weight · columns)^ν.
    alpha: multiplies every value of user_items.
    check_every: epochs between two validations or checkpoints. patience: validations without a better
        figure before training stops. storage: "float32", "float16" or "bfloat16" factors; arithmetic is
        float32.
    memory_limit_gib: most memory of the device that a fit takes beyond what the process holds before it; 0
        stands for what the device has. What does not fit at once is fitted by blocks.
    """

    num_factors: int = 64
    objective: Literal["observed", "confidence", "explicit"] = "observed"
    unobserved_weight: float = 0.1
    regularization: float = 0.003
    regularization_exponent: float = 1.0
    alpha: float = 1.0
    num_epochs: int = 16
    solver: str = "exact"
    num_cg_steps: int = 3
    initial_deviation: float = 0.1
    storage: Literal["float32", "float16", "bfloat16"] = "float32"
    validation_metric: Literal["recall", "ndcg"] = "ndcg"
    validation_k: int = 20
    validation_users: int = 10_000
    check_every: int = 1
    patience: int = 3
    seed: int = 0
    backend: str = "auto"
    memory_limit_gib: float = 0.0

    def __post_init__(self) -> None:
        take_plain_values(self)
        for name in ("num_factors", "num_epochs", "num_cg_steps", "validation_k", "check_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        for name in ("unobserved_weight", "regularization", "alpha", "initial_deviation", "memory_limit_gib"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name}={getattr(self, name)}: must be finite and not negative")
        if self.objective not in ("observed", "confidence", "explicit"):
            raise ValueError(f"objective={self.objective!r}: must be observed, confidence or explicit")
        if self.solver not in SOLVERS:
            raise ValueError(f"solver={self.solver!r}: must be one of {', '.join(SOLVERS)}")
        if self.storage not in STORAGES:
            raise ValueError(f"storage={self.storage!r}: must be one of {', '.join(STORAGES)}")

    @property
    def missing_weight(self) -> float:
        """The weight of a pair that was not seen: explicit ratings say nothing of it."""
        return 0.0 if self.objective == "explicit" else self.unobserved_weight


def canonical(user_items: Any, name: str = "user_items") -> sparse.csr_matrix:
    """A CSR float32 copy, sorted, duplicates summed; raises naming what is wrong with it."""
    if not sparse.issparse(user_items) or user_items.format != "csr":
        raise TypeError(
            f"{name}: must be a scipy CSR matrix, not {type(user_items).__name__}; call .tocsr() first"
        )
    if user_items.dtype.kind not in "fiub":
        raise TypeError(f"{name}: values of dtype {user_items.dtype} must be numbers")
    matrix = sparse.csr_matrix(user_items, dtype=np.float32, copy=True)
    if not np.isfinite(matrix.data).all():
        row = int(np.searchsorted(matrix.indptr, np.flatnonzero(~np.isfinite(matrix.data))[0], "right") - 1)
        raise ValueError(f"{name}: row {row} has a NaN or infinite value; drop or replace it")
    matrix.sum_duplicates()
    return matrix


def rows_of(matrix: sparse.csr_matrix, config: MFConfig, other_bias: Float32 | None = None) -> Rows:
    """One side's observations for the kernels; `matrix` is canonical, [rows, columns].

    A value of zero or less says "seen and not wanted": it weighs its size, with target 0. For explicit
    ratings `matrix` holds them without their mean, and `other_bias` [columns] is taken off as well.
    """
    value = matrix.data * np.float32(config.alpha)
    counts = np.diff(matrix.indptr).astype(np.float64)
    if config.objective == "explicit":
        weight, target = np.ones_like(value), matrix.data
        if other_bias is not None:
            target = target - other_bias[matrix.indices]
    else:
        weight, target = np.abs(value), np.maximum(value, 0)
        if config.objective == "confidence":
            weight = weight - np.float32(config.unobserved_weight)
    frequency = counts + config.missing_weight * matrix.shape[1]
    held = config.regularization * np.maximum(frequency, 1) ** config.regularization_exponent
    return Rows(
        matrix.indptr.astype(np.int64),
        matrix.indices.astype(np.int32),
        weight.astype(np.float32),
        target.astype(np.float32),
        held.astype(np.float32),
    )


def degree_weights(user_items: sparse.csr_matrix, exponent: float) -> sparse.csr_matrix:
    """`user_items` with every value multiplied by (d_u d_i)^-exponent, where their mean stays as it was.

    d_u and d_i count the entries of the user's row and of the item's column. It keeps those who did much, and
    what everybody has, from deciding on the factors, as the symmetric normalisation of graph methods does
    (He et al. 2020, "LightGCN"). Returns CSR float32, sorted; raises what `canonical` raises, and ValueError
    for an exponent that is not finite.
    """
    if not np.isfinite(exponent):
        raise ValueError(f"exponent={exponent}: must be finite")
    matrix = canonical(user_items)
    per_user: NDArray[np.int64] = np.diff(matrix.indptr)
    per_item = np.bincount(matrix.indices, minlength=matrix.shape[1])
    degrees = np.repeat(per_user, per_user) * per_item[matrix.indices].astype(np.float64)
    weighted = matrix.data * degrees**-exponent
    total = np.abs(weighted).sum()
    scale = np.abs(matrix.data).sum(dtype=np.float64) / total if total else 1.0
    matrix.data = (weighted * scale).astype(np.float32)
    return matrix
