"""BPR against implicit: updates a second and held-out AUC, the same rates and number of passes."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from benchmarks.datasets import gowalla, start_factors, zipf_interactions
from benchmarks.runner import Report, interleave
from shopsight.kernels import bpr
from shopsight.kernels.backend import resolve

FACTORS = 64
RATE, REGULARIZATION = 0.05, 0.01
PASSES = 3  # of one round


def run(report: Report) -> None:
    """Two sets; AUC on a tenth of the interactions, held out; on a GPU the sets of benchmarks/on_gpu."""
    if resolve().name == "cuda":
        from benchmarks.on_gpu.descent import run_bpr

        return run_bpr(report)
    cases: dict[str, Any] = {"100k x 20k, 1M draws": zipf_interactions(100_000, 20_000, 1_000_000)}
    if (check_ins := gowalla()) is not None:
        cases["gowalla_lightgcn"] = check_ins
    for name, matrix in cases.items():
        compare(report, name, matrix)


def compare(report: Report, name: str, matrix: sparse.csr_matrix) -> None:
    """Rows of one set."""
    known, held_out = split(matrix)
    ours, theirs = Ours(known), Implicit(known)
    seconds = interleave({"ours": ours, "implicit": theirs}, budget_seconds=120)
    scores = auc(known, held_out, *ours.factors()), auc(known, held_out, *theirs.factors())
    updates = PASSES * known.nnz
    report.add_times(
        f"{name}, bpr",
        "implicit",
        [s / updates * 1e6 for s in seconds["ours"]],
        [s / updates * 1e6 for s in seconds["implicit"]],
        metric="time an update",
        unit="µs",
        our_updates_a_second=updates / float(np.median(seconds["ours"])),
        their_updates_a_second=updates / float(np.median(seconds["implicit"])),
        rounds=len(seconds["ours"]),
    )
    report.add_value(
        f"{name}, bpr", "implicit", "held-out auc", *scores, "auc", passes=PASSES * (len(seconds["ours"]) + 1)
    )


class Ours:
    """Some passes a call."""

    def __init__(self, matrix: sparse.csr_matrix) -> None:
        self._data = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
        self._factors = tuple(part * 1.0 for part in start_factors(matrix.shape, FACTORS))
        self._epoch = 0

    def __call__(self) -> None:
        self._factors = bpr.train(
            *self._data,
            *self._factors,
            rate=RATE,
            regularization=REGULARIZATION,
            num_epochs=PASSES,
            first_epoch=self._epoch,
        )
        self._epoch += PASSES

    def factors(self) -> Any:
        return self._factors


class Implicit:
    """implicit's class, which goes on from where its last `fit` ended."""

    def __init__(self, matrix: sparse.csr_matrix) -> None:
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        self._matrix = matrix
        self._model = BayesianPersonalizedRanking(
            factors=FACTORS - 1,  # it adds a bias as one more
            learning_rate=RATE,
            regularization=REGULARIZATION,
            iterations=PASSES,
            num_threads=resolve("cpu").num_threads,
            random_state=0,
        )

    def __call__(self) -> None:
        self._model.fit(self._matrix, show_progress=False)

    def factors(self) -> Any:
        return self._model.user_factors, self._model.item_factors


def split(matrix: sparse.csr_matrix) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Nine tenths and one tenth of the interactions, by seed 0."""
    pairs = matrix.tocoo()
    held = np.random.default_rng(0).random(pairs.nnz) < 0.1
    parts = []
    for chosen in (~held, held):
        part = sparse.csr_matrix(
            (pairs.data[chosen], (pairs.row[chosen], pairs.col[chosen])), matrix.shape, dtype=np.float32
        )
        part.sort_indices()
        parts.append(part)
    return parts[0], parts[1]


def auc(known: sparse.csr_matrix, held_out: sparse.csr_matrix, x: np.ndarray, y: np.ndarray) -> float:
    """How often a held-out interaction scores above a random item that its user has in neither part."""
    pairs = held_out.tocoo()
    random = np.random.default_rng(1)
    chosen = random.choice(pairs.nnz, min(50_000, pairs.nnz), replace=False)
    users, liked = pairs.row[chosen], pairs.col[chosen]
    others = random.integers(0, held_out.shape[1], len(users))
    unseen = np.asarray((known + held_out)[users, others]).ravel() == 0
    margin = np.einsum("nf,nf->n", x[users], y[liked] - y[others])
    return float((margin[unseen] > 0).mean())
