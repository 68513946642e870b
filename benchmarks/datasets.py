"""The interactions that benchmarks run on, always the same for a seed."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
from scipy import sparse

from shopsight.kernels.rows import Rows

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def zipf_interactions(num_users: int, num_items: int, num_draws: int, seed: int = 0) -> sparse.csr_matrix:
    """Draws of a uniform user and an item of Zipf exponent 1; a pair drawn again weighs more. CSR float32."""
    random = np.random.default_rng(seed)
    users = random.integers(0, num_users, num_draws)
    popularity = np.cumsum(1 / np.arange(1, num_items + 1))
    items = np.searchsorted(popularity, random.random(num_draws) * popularity[-1])
    ones = np.ones(num_draws, np.float32)
    matrix = sparse.csr_matrix((ones, (users, np.minimum(items, num_items - 1))), (num_users, num_items))
    matrix.sum_duplicates()
    return matrix


def gowalla(part: str = "train") -> sparse.csr_matrix | None:
    """The LightGCN split of Gowalla, CSR float32 of ones [29858, 40981]; None where it is not at hand."""
    path = SHARED / "gowalla_lightgcn" / f"{part}.txt.gz"
    if not path.is_file():
        return None
    with gzip.open(path, "rt") as lines:
        rows = [np.array(line.split(), dtype=np.int64) for line in lines if line.strip()]
    users = np.concatenate([np.full(len(row) - 1, row[0]) for row in rows])
    items = np.concatenate([row[1:] for row in rows])
    return sparse.csr_matrix((np.ones(len(items), np.float32), (users, items)), (29858, 40981))


def file_sha256(*parts: str) -> str:
    """The hash of a shared file, for the rows."""
    return hashlib.sha256(SHARED.joinpath(*parts).read_bytes()).hexdigest()


def confidence_rows(matrix: sparse.csr_matrix, regularization: float) -> Rows:
    """The rows of implicit's own objective: confidence as it stands, weight 1 of the unobserved."""
    matrix = matrix.tocsr()
    matrix.sort_indices()
    return Rows(
        matrix.indptr.astype(np.int64),
        matrix.indices.astype(np.int32),
        (matrix.data - 1).astype(np.float32),
        matrix.data.astype(np.float32),
        np.full(matrix.shape[0], regularization, np.float32),
    )


def start_factors(shape: tuple[int, int], num_factors: int) -> tuple[np.ndarray, np.ndarray]:
    """Where every peer starts: small and random, float32."""
    random = np.random.default_rng(0)
    users, items = (
        ((random.random((n, num_factors), dtype=np.float32) - 0.5) / num_factors).astype(np.float32)
        for n in shape
    )
    return users, items
