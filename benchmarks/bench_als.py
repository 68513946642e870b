"""ALS against implicit: the same data, objective and start, a whole iteration a round, at equal loss."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from benchmarks.datasets import confidence_rows, gowalla, start_factors, zipf_interactions
from benchmarks.machine import copy_bytes, gemm_flops
from benchmarks.runner import Report, interleave
from kernels.backend import resolve

FACTORS = 64
REGULARIZATION = 0.01


class Ours:
    """Factors that move by one iteration a call."""

    def __init__(self, matrix: sparse.csr_matrix, solver: str) -> None:
        from kernels.cpu.als import AlsTraining

        self.rows = confidence_rows(matrix, REGULARIZATION), confidence_rows(matrix.T.tocsr(), REGULARIZATION)
        start = start_factors(matrix.shape, FACTORS)
        if resolve().name == "cuda":
            from kernels.cuda.als import AlsTraining  # type: ignore[assignment]
        self._training = AlsTraining(*self.rows, *start, 1.0, solver, 3)

    def __call__(self) -> None:
        self._training.run_epoch()

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        return self._training.result()


class Implicit:
    """implicit's compiled half steps, called as its `fit` calls them."""

    def __init__(self, matrix: sparse.csr_matrix, cg_steps: int | None) -> None:
        from implicit.cpu import _als

        self._sides = matrix, matrix.T.tocsr()
        self._x, self._y = start_factors(matrix.shape, FACTORS)
        self._threads = resolve("cpu").num_threads
        self._cg_steps = cg_steps
        self._als = _als

    def __call__(self) -> None:
        from kernels.cpu.schedule import one_blas_thread

        with one_blas_thread():
            for side, solved, fixed in (
                (self._sides[0], self._x, self._y),
                (self._sides[1], self._y, self._x),
            ):
                arguments = (side, solved, fixed, REGULARIZATION)
                if self._cg_steps is None:
                    self._als.least_squares(*arguments, num_threads=self._threads)
                else:
                    self._als.least_squares_cg(*arguments, num_threads=self._threads, cg_steps=self._cg_steps)

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        return self._x, self._y


def run(report: Report) -> None:
    """Three sets, two solvers against two, and how cost grows with interactions."""
    cases: dict[str, Any] = {"100k x 20k, 1M draws": zipf_interactions(100_000, 20_000, 1_000_000)}
    if (check_ins := gowalla()) is not None:
        cases["gowalla_lightgcn"] = check_ins
    else:
        report.say("gowalla_lightgcn is not at hand: left out")
    for name, matrix in cases.items():
        compare(report, name, matrix, 90)
    compare(report, "140k x 27k, 20M draws", zipf_interactions(140_000, 27_000, 20_000_000), 200)
    growth(report)


def compare(report: Report, name: str, matrix: sparse.csr_matrix, budget_seconds: float) -> None:
    """Rows of one set: ours exact and cg against implicit's Cholesky and CG-3, and against the bound."""
    variants: dict[str, Any] = {
        "ours exact": Ours(matrix, "exact"),
        "ours cg": Ours(matrix, "cg"),
        "implicit cg-3": Implicit(matrix, 3),
        "implicit cholesky": Implicit(matrix, None),
    }
    seconds = interleave(variants, budget_seconds=budget_seconds)
    losses = {key: loss(matrix, *variant.factors()) for key, variant in variants.items()}
    floor = floor_seconds(variants["ours exact"].rows)
    for ours, peer in (
        ("exact", "implicit cholesky"),
        ("exact", "implicit cg-3"),
        ("cg", "implicit cg-3"),
    ):
        mine = seconds[f"ours {ours}"]
        report.add_times(
            f"{name}, {ours}",
            peer,
            mine,
            seconds[peer],
            metric="seconds an iteration",
            num_interactions=matrix.nnz,
            rounds=len(mine),
            our_loss=losses[f"ours {ours}"],
            their_loss=losses[peer],
            equal_or_better_loss=losses[f"ours {ours}"] <= losses[peer] * 1.0005,
            bound_seconds=floor,
        )
    bound = [floor] * len(seconds["ours exact"])
    report.add_times(
        f"{name}, exact",
        "bound: gemm and memory",
        seconds["ours exact"],
        bound,
        metric="seconds an iteration",
    )


def growth(report: Report) -> None:
    """Iterations on ever more interactions of the same users and items, beside a line through the first."""
    first: dict[str, float] = {}
    for draws in (500_000, 1_000_000, 2_000_000, 4_000_000):
        matrix = zipf_interactions(50_000, 10_000, draws)
        seconds = interleave({"exact": Ours(matrix, "exact"), "cg": Ours(matrix, "cg")}, repeats=3)
        for solver, times in seconds.items():
            ours = float(np.median(times))
            linear = first.setdefault(solver, ours / matrix.nnz) * matrix.nnz
            details = {"num_interactions": matrix.nnz}
            report.add_times(
                f"50k x 10k, {solver}",
                "linear from the smallest",
                [ours],
                [linear],
                metric="growth",
                **details,
            )


def loss(matrix: sparse.csr_matrix, x: np.ndarray, y: np.ndarray) -> float:
    """The objective per interaction at these factors, float64 sums over blocks of users."""
    gramian = y.astype(np.float64).T @ y
    total = REGULARIZATION * float(np.sum(x.astype(np.float64) ** 2) + np.sum(y.astype(np.float64) ** 2))
    for begin in range(0, matrix.shape[0], 4096):
        part, users = matrix[begin : begin + 4096], x[begin : begin + 4096]
        row_of = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))
        scores = np.einsum("nf,nf->n", users[row_of], y[part.indices], dtype=np.float64)
        total += float(np.sum((users.astype(np.float64) @ gramian) * users))
        total += float(np.sum(part.data * (1 - scores) ** 2 - scores**2))
    return total / matrix.nnz


def floor_seconds(sides: Any) -> float:
    """No iteration can be shorter: its multiply-adds at GEMM speed, or its bytes at the speed of a copy."""
    operations = traffic = 0.0
    for rows in sides:
        k = np.diff(rows.indptr).astype(np.float64)
        k = k[k > 0]
        primal = k * FACTORS * (FACTORS + 1) + FACTORS**3 / 3 + 2 * FACTORS**2
        dual = k * (k + 1) * FACTORS + k**3 / 3 + 2 * k**2 + 4 * k * FACTORS
        operations += float(np.minimum(primal, dual).sum()) + 2 * rows.num_rows * FACTORS**2
        traffic += len(rows.indices) * 12 + rows.num_rows * FACTORS * 8
    return max(operations / gemm_flops(), traffic / copy_bytes())
