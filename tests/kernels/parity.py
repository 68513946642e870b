"""Odd shapes for every operation, and the backends that this machine can hold to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from shopsight.kernels.backend import available
from shopsight.kernels.rows import Rows

BACKENDS = [
    pytest.param("cpu"),
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(len(available()) < 2, reason="no CUDA device with cupy on this machine"),
        ],
    ),
]
FACTORS = (1, 8, 50, 64, 100, 128, 256)
STORAGES = (np.float32, np.float16)


@dataclass(frozen=True)
class Shape:
    """Degrees of the rows over a number of columns."""

    name: str
    degrees: tuple[int, ...]
    num_columns: int
    duplicates: bool = False


SHAPES = (
    Shape("one user, one item", (1,), 1),
    Shape("one user", (7,), 30),
    Shape("one item", (1, 0, 1, 1), 1),
    Shape("empty rows", (0, 3, 0, 0, 40, 0), 50),
    Shape("no interaction at all", (0, 0, 0), 5),
    Shape("a user with every item", (2, 90, 5), 90),
    Shape("around the tile's edges", (15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129), 150),
    Shape("skewed", (1000, *(1 + 200 // (rank + 1) for rank in range(40))), 1200),
    Shape("duplicates", (12, 40, 3, 70), 20, duplicates=True),
)


def make_csr(shape: Shape, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """indptr and indices of the shape, ascending; with duplicates, columns are drawn with replacement."""
    rows = [
        np.sort(random.choice(shape.num_columns, degree, replace=shape.duplicates))
        for degree in shape.degrees
    ]
    indptr = np.concatenate([[0], np.cumsum(shape.degrees)]).astype(np.int64)
    return indptr, np.concatenate(rows).astype(np.int32)


def make_rows(shape: Shape, objective: str, random: np.random.Generator) -> tuple[Rows, float]:
    """Rows of the shape under one of the objectives in use, and the weight of the unobserved."""
    indptr, indices = make_csr(shape, random)
    size = len(indices)
    value = random.uniform(0.5, 3, size).astype(np.float32)
    ones = np.ones(size, np.float32)
    regularization = random.uniform(0.05, 0.5, len(indptr) - 1).astype(np.float32)
    if objective == "observed":
        return Rows(indptr, indices, ones, ones, regularization), 0.1
    if objective == "confidence":  # a confidence of exactly 1 adds nothing to the unobserved's weight
        confidence = np.where(random.random(size) < 0.3, np.float32(1), 1 + value)
        return Rows(indptr, indices, confidence - np.float32(1), confidence, regularization), 1.0
    if objective == "below unobserved":
        return Rows(indptr, indices, value - np.float32(0.9), value, regularization + np.float32(1)), 1.0
    return Rows(indptr, indices, ones, value - np.float32(1.5), regularization), 0.0


def make_factors(num_rows: int, num_factors: int, storage: type, random: np.random.Generator) -> np.ndarray:
    """Factors of a size that gives scores around one."""
    return (random.standard_normal((num_rows, num_factors)) / num_factors**0.25).astype(storage)
