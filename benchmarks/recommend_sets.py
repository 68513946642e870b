"""The public sets that recommendations are judged on, cut as their published figures were."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.datasets import SHARED, file_sha256, gowalla

_HELD_SHARE = 0.1  # of each user's training items, for the validation of gowalla_lightgcn
_SPLIT_SEED = 0


@dataclass(frozen=True)
class Cut:
    """What is learned from, and what is asked for.

    recency: CSR [users, items]; a value is the interaction's place counted from the user's latest, which
        has 1, so that a weight can fall with it; all are 1 where the set has no order.
    held_out: CSR of ones, the same shape.
    """

    recency: sparse.csr_matrix
    held_out: sparse.csr_matrix


@dataclass(frozen=True)
class PublicSet:
    """A set, its two cuts and what has been published on its test cut, as {peer: (recall, ndcg)}."""

    name: str
    k: int
    protocol: str
    metrics: tuple[str, str]
    files: tuple[tuple[str, ...], ...]
    read_validation: Callable[[], Cut]
    read_test: Callable[[], Cut]
    published: dict[str, tuple[float, float]]
    source: str
    masked: tuple[bool, ...] = (True,)

    def obstacle(self) -> str | None:
        """Return why it cannot be measured here; None where it can."""
        missing = [Path(*parts) for parts in self.files if not SHARED.joinpath(*parts).is_file()]
        return f"{self.name}: {missing[0]} is not in ../shared/data beside the checkout" if missing else None

    def sha256(self) -> dict[str, str]:
        """Return the hash of each file."""
        return {"/".join(parts): file_sha256(*parts) for parts in self.files}


def gowalla_validation() -> Cut:
    """Hold a tenth of each user's training items out, drawn by a fixed seed."""
    return random_cut(_gowalla("train"), _HELD_SHARE, _SPLIT_SEED)


def gowalla_test() -> Cut:
    """Return the given split."""
    return Cut(_gowalla("train"), _gowalla("test"))


def ml1m_validation() -> Cut:
    """Ask for the last item but one of each user; the last is not there at all."""
    users, items = _ml1m()
    return leave_last_out(users, items, skip=1)


def ml1m_test() -> Cut:
    """Ask for the last item of each user."""
    return leave_last_out(*_ml1m())


def unordered(cut: Cut) -> Cut:
    """Forget the order: every interaction counts as the latest."""
    ones = cut.recency.copy()
    ones.data[:] = 1
    return Cut(ones, cut.held_out)


def random_cut(matrix: sparse.csr_matrix, share: float, seed: int) -> Cut:
    """Hold round(share · n) items of each user with n of them out, at random; matrix is CSR of ones."""
    counts = np.diff(matrix.indptr)
    users = np.repeat(np.arange(matrix.shape[0]), counts)
    order = np.lexsort((np.random.default_rng(seed).random(matrix.nnz), users))
    place = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], counts)
    is_held = np.zeros(matrix.nnz, dtype=bool)
    is_held[order] = place < np.round(share * np.repeat(counts, counts))
    ones = np.ones(matrix.nnz)
    kept, held = (
        _csr(users[chosen], matrix.indices[chosen], ones[chosen], matrix.shape)
        for chosen in (~is_held, is_held)
    )
    return Cut(kept, held)


def leave_last_out(users: NDArray[np.int64], items: NDArray[np.int64], skip: int = 0) -> Cut:
    """Hold each user's last item out after dropping the last `skip`; pairs are in order within a user.

    An item that a user met twice counts at its latest place.
    """
    shape = (int(users.max()) + 1, int(items.max()) + 1)
    order = np.argsort(users, kind="stable")
    users, items = users[order], items[order]
    counts = np.bincount(users, minlength=shape[0])
    place = np.repeat(np.cumsum(counts), counts) - np.arange(len(users)) - skip  # 1 is the last that counts
    held = place == 1
    known = place > 1
    latest = sparse.coo_matrix((place[known] - 1, (users[known], items[known])), shape)
    recency = _least_of_each_cell(latest)
    return Cut(recency, _csr(users[held], items[held], np.ones(int(held.sum())), shape))


def _least_of_each_cell(cells: sparse.coo_matrix) -> sparse.csr_matrix:
    order = np.lexsort((cells.data, cells.col, cells.row))
    rows, columns, values = cells.row[order], cells.col[order], cells.data[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (np.diff(rows) != 0) | (np.diff(columns) != 0)
    return _csr(rows[first], columns[first], values[first], cells.shape)


def _csr(
    rows: NDArray[np.int64], columns: NDArray[np.int64], values: NDArray[np.float64], shape: tuple[int, int]
) -> sparse.csr_matrix:
    matrix = sparse.csr_matrix((values.astype(np.float32), (rows, columns)), shape)
    matrix.sort_indices()
    return matrix


def _gowalla(part: str) -> sparse.csr_matrix:
    matrix = gowalla(part)
    if matrix is None:
        raise FileNotFoundError(f"gowalla_lightgcn/{part}.txt.gz is not in ../shared/data")
    matrix.sort_indices()
    return matrix


def _ml1m() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    with gzip.open(SHARED / "ml1m" / "ml-1m.txt.gz", "rt", encoding="ascii") as lines:
        pairs = np.loadtxt(lines, dtype=np.int64)
    users, items = (np.unique(column, return_inverse=True)[1] for column in pairs.T)
    return users, items


GOWALLA = PublicSet(
    name="gowalla_lightgcn",
    k=20,
    protocol=(
        "given split, all items ranked; recall divides by the user's test items, mean over all test users; "
        "settings chosen on a random tenth of each user's training items, then fitted to all training items"
    ),
    metrics=("recall_at_20", "ndcg_at_20"),
    files=(("gowalla_lightgcn", "train.txt.gz"), ("gowalla_lightgcn", "test.txt.gz")),
    read_validation=gowalla_validation,
    read_test=gowalla_test,
    published={"LightGCN": (0.1830, 0.1554)},
    source="He et al. 2020; its authors' PyTorch repository, 3 layers of 64: .1824 / .1547",
)
ML1M = PublicSet(
    name="ml1m",
    k=10,
    protocol=(
        "leave one out: the last item of each user is the test item, all items ranked; settings chosen on "
        "the last item but one with the last left away, then fitted to all but the last"
    ),
    metrics=("hr_at_10", "ndcg_at_10"),
    files=(("ml1m", "ml-1m.txt.gz"),),
    read_validation=ml1m_validation,
    read_test=ml1m_test,
    published={
        "SASRec": (0.2500, 0.1341),
        "BERT4Rec": (0.2843, 0.1537),
        "SASRec with cross-entropy": (0.3152, 0.1821),
    },
    source="README of antklen/sasrec-bert4rec-recsys23; models of sequences, masking of seen items not said",
    masked=(True, False),
)
ML1M_UNORDERED = replace(
    ML1M,
    name="ml1m_unordered",
    protocol=f"{ML1M.protocol}; the order of what is learned from is not used",
    read_validation=lambda: unordered(ml1m_validation()),
    read_test=lambda: unordered(ml1m_test()),
    published={},
    masked=(True,),
)
SETS = {chosen.name: chosen for chosen in (GOWALLA, ML1M, ML1M_UNORDERED)}
