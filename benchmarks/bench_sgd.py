"""SGD on ratings against the textbook loop in numba: updates a second, error, and the memory's bound."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from benchmarks.datasets import start_factors, zipf_interactions
from benchmarks.machine import copy_bytes
from benchmarks.runner import Report, interleave
from shopsight.kernels import sgd
from shopsight.kernels.backend import resolve

FACTORS = 64
RATES = sgd.Rates(0.01, 0.05, 0.01, 0.02)


def run(report: Report) -> None:
    """One set, ratings that a few hidden factors explain; on a GPU the sets of benchmarks/on_gpu."""
    if resolve().name == "cuda":
        from benchmarks.on_gpu.descent import run_sgd

        return run_sgd(report)
    matrix = zipf_interactions(100_000, 20_000, 2_000_000)
    random = np.random.default_rng(1)
    taste, trait = (random.standard_normal((n, 4)).astype(np.float32) for n in matrix.shape)
    row_of = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    ratings = 3 + np.einsum("nf,nf->n", taste[row_of], trait[matrix.indices]) / 2
    ratings = ratings.astype(np.float32)
    indptr, indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
    ours, textbook = (
        Ours(indptr, indices, ratings, matrix.shape),
        Textbook(row_of, indices, ratings, matrix.shape),
    )
    seconds = interleave({"ours": ours, "textbook": textbook}, budget_seconds=150)
    report.add_times(
        "100k x 20k, 2M ratings, sgd",
        "textbook loop in numba, one thread, shuffled",
        [s / matrix.nnz * 1e6 for s in seconds["ours"]],
        [s / matrix.nnz * 1e6 for s in seconds["textbook"]],
        metric="time an update",
        unit="µs",
        rounds=len(seconds["ours"]),
        our_rmse=ours.error,
        their_rmse=textbook.error,
        bound_microseconds=(4 * FACTORS * 4 + 12) / copy_bytes() * 1e6,
    )


class Ours:
    """A pass a call."""

    def __init__(self, indptr: Any, indices: Any, ratings: Any, shape: tuple[int, int]) -> None:
        biases = (np.zeros(n, np.float32) for n in shape)
        self._data = indptr, indices, ratings
        self._state = sgd.SgdState(*start_factors(shape, FACTORS), *biases, float(ratings.mean()))
        self._epoch = 0
        self.error = 0.0

    def __call__(self) -> None:
        def after_epoch(_: int, rmse: float) -> bool:
            self.error = rmse
            return False

        self._state = sgd.train(
            *self._data, self._state, RATES, num_epochs=1, first_epoch=self._epoch, after_epoch=after_epoch
        )
        self._epoch += 1


class Textbook:
    """Ratings in a random order, one after the other."""

    def __init__(self, users: Any, items: Any, ratings: Any, shape: tuple[int, int]) -> None:
        self._data = users.astype(np.int32), items, ratings
        self._factors = start_factors(shape, FACTORS)
        self._biases = tuple(np.zeros(n, np.float32) for n in shape)
        self._random = np.random.default_rng(0)
        self.error = 0.0

    def __call__(self) -> None:
        order = self._random.permutation(len(self._data[2]))
        total = _textbook_pass(order, *self._data, *self._factors, *self._biases, float(self._data[2].mean()))
        self.error = float(np.sqrt(total / len(order)))


@njit(cache=True, fastmath=True)
def _textbook_pass(
    order: Any, users: Any, items: Any, ratings: Any, x: Any, y: Any, a: Any, b: Any, mean: float
) -> float:
    total = 0.0
    for position in order:
        user, item = users[position], items[position]
        score = mean + a[user] + b[item]
        for f in range(x.shape[1]):
            score += x[user, f] * y[item, f]
        error = ratings[position] - score
        for f in range(x.shape[1]):
            before = x[user, f]
            x[user, f] += np.float32(0.01) * (error * y[item, f] - np.float32(0.05) * before)
            y[item, f] += np.float32(0.01) * (error * before - np.float32(0.05) * y[item, f])
        a[user] += np.float32(0.01) * (error - np.float32(0.02) * a[user])
        b[item] += np.float32(0.01) * (error - np.float32(0.02) * b[item])
        total += error * error
    return total
