"""ALS against implicit: the same data, objective and start, a whole iteration a round, at equal loss."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from benchmarks.datasets import confidence_rows, gowalla, start_factors, zipf_interactions
from benchmarks.machine import copy_bytes, gemm_flops
from benchmarks.runner import Report, interleave
from shopsight.kernels.als import half_step
from shopsight.kernels.backend import resolve
from shopsight.kernels.rows import Rows

FACTORS = 64
REGULARIZATION = 0.01
SCALE = 40  # of confidences, so that every entry weighs more than the unobserved
LOSS_TOLERANCE = 0.0005


class Ours:
    """Factors that move by one iteration a call."""

    def __init__(self, matrix: sparse.csr_matrix, solver: str) -> None:
        from shopsight.kernels.cpu.als import AlsTraining

        self.rows = confidence_rows(matrix, REGULARIZATION), confidence_rows(matrix.T.tocsr(), REGULARIZATION)
        start = start_factors(matrix.shape, FACTORS)
        self._training = AlsTraining(*self.rows, *start, 1.0, solver, 3)

    def __call__(self) -> None:
        self._training.run_epoch()

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        return self._training.result()


class Implicit:
    """implicit's compiled half steps, called as its `fit` calls them."""

    def __init__(self, matrix: sparse.csr_matrix, cg_steps: int | None) -> None:
        self._sides = matrix, matrix.T.tocsr()
        self._x, self._y = start_factors(matrix.shape, FACTORS)
        self._cg_steps = cg_steps

    def __call__(self) -> None:
        solve_with_implicit(self._sides[0], self._x, self._y, self._cg_steps)
        solve_with_implicit(self._sides[1], self._y, self._x, self._cg_steps)

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        return self._x, self._y


def solve_with_implicit(side: sparse.csr_matrix, x: np.ndarray, y: np.ndarray, cg_steps: int | None) -> None:
    """implicit's half step into `x`, which its conjugate gradients also start from."""
    from implicit.cpu import _als

    from shopsight.kernels.cpu.schedule import one_blas_thread

    num_threads = resolve("cpu").num_threads
    with one_blas_thread():
        if cg_steps is None:
            _als.least_squares(side, x, y, REGULARIZATION, num_threads=num_threads)
        else:
            _als.least_squares_cg(side, x, y, REGULARIZATION, num_threads=num_threads, cg_steps=cg_steps)


def run(report: Report) -> None:
    """Three sets as they stand and with every entry weighing, the worst shape, and how cost grows.

    On a GPU the sets of benchmarks/on_gpu.
    """
    if resolve().name == "cuda":
        from benchmarks.on_gpu import als as on_gpu

        return on_gpu.run(report)
    cases: dict[str, Any] = {"100k x 20k, 1M draws": zipf_interactions(100_000, 20_000, 1_000_000)}
    if (check_ins := gowalla()) is not None:
        cases["gowalla_lightgcn"] = check_ins
    else:
        report.say("gowalla_lightgcn is not at hand: left out")
    cases["140k x 27k, 20M draws"] = zipf_interactions(140_000, 27_000, 20_000_000)
    machine = Machine(gemm_flops(), copy_bytes())
    report.say(f"GEMM {machine.flops / 1e9:.0f} GFLOP/s, copy {machine.bytes / 1e9:.1f} GB/s")
    for name, matrix in cases.items():
        compare(report, machine, name, matrix)
        compare(report, machine, f"{name}, confidence x {SCALE}", matrix * np.float32(SCALE))
    long_row(report, machine)
    growth(report, machine)


def compare(report: Report, machine: Machine, name: str, matrix: sparse.csr_matrix) -> None:
    """Rows of one set: ours exact and cg against implicit's Cholesky and CG-3, and against the bound.

    As the sets stand, most entries have confidence 1, that of the unobserved, and weigh nothing in a row's
    system. Ours leaves them out of it; implicit's Cholesky is quicker too (its BLAS has a factor of 0 to
    add), its conjugate gradients are not. Scaled, every entry weighs and nobody has that advantage.
    """
    variants: dict[str, Any] = {
        "exact": Ours(matrix, "exact"),
        "cg": Ours(matrix, "cg"),
        "implicit cg-3": Implicit(matrix, 3),
        "implicit cholesky": Implicit(matrix, None),
    }
    seconds = interleave(variants, budget_seconds=180)
    losses = {key: loss(matrix, *variant.factors()) for key, variant in variants.items()}
    for ours, peers in (("exact", ("implicit cholesky", "implicit cg-3")), ("cg", ("implicit cg-3",))):
        floor, kind = machine.least_seconds(variants[ours].rows, ours)
        for peer in peers:
            report.add_times(
                f"{name}, {ours}",
                peer,
                seconds[ours],
                seconds[peer],
                metric="seconds an iteration",
                num_interactions=matrix.nnz,
                rounds=len(seconds[ours]),
                our_loss=losses[ours],
                their_loss=losses[peer],
                equal_or_better_loss=losses[ours] <= losses[peer] * (1 + LOSS_TOLERANCE),
                loss_tolerance=LOSS_TOLERANCE,
                bound_seconds=floor,
                bound=kind,
            )
        report.add_times(
            f"{name}, {ours}",
            f"bound: {kind}",
            seconds[ours],
            [floor] * len(seconds[ours]),
            metric="seconds an iteration",
        )


def long_row(report: Report, machine: Machine) -> None:
    """The worst shape: a half step of items of Zipf degrees, the longest row of a million entries."""
    random = np.random.default_rng(0)
    num_users, num_items = 1_000_000, 500
    entries = [
        np.sort(random.choice(num_users, num_users // (rank + 1), replace=False)) for rank in range(num_items)
    ]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in entries])])
    values = np.full(indptr[-1], SCALE, np.float32)
    items = sparse.csr_matrix((values, np.concatenate(entries), indptr), (num_items, num_users))
    users = start_factors((num_users, 1), FACTORS)[0]
    rows, threads = confidence_rows(items, REGULARIZATION), resolve("cpu").num_threads
    answers: dict[str, Any] = {}

    def ours(solver: str, num_threads: int) -> None:
        os.environ["OMP_NUM_THREADS"] = str(num_threads)
        answers[solver] = half_step(rows, users, 1.0, solver=solver)
        os.environ["OMP_NUM_THREADS"] = str(threads)

    def theirs(cg_steps: int | None) -> None:
        x = np.zeros((num_items, FACTORS), np.float32)
        solve_with_implicit(items, x, users, cg_steps)
        answers[f"implicit {cg_steps}"] = x

    variants = {
        "exact": lambda: ours("exact", threads),
        "exact on one thread": lambda: ours("exact", 1),
        "cg": lambda: ours("cg", threads),
        "implicit cg-3": lambda: theirs(3),
        "implicit cholesky": lambda: theirs(None),
    }
    seconds = interleave(variants, budget_seconds=60)
    np.testing.assert_allclose(answers["exact"], answers["implicit None"], rtol=0.02, atol=1e-3)
    for solver, peer in (
        ("exact", "implicit cholesky"),
        ("exact", "implicit cg-3"),
        ("exact", "exact on one thread"),
        ("cg", "implicit cg-3"),
    ):
        floor, kind = machine.least_seconds([rows], solver)
        report.add_times(
            f"worst shape: {num_items} rows, one of 1M entries, {solver}",
            peer,
            seconds[solver],
            seconds[peer],
            metric="seconds a half step",
            num_interactions=items.nnz,
            bound_seconds=floor,
            bound=kind,
        )


def growth(report: Report, machine: Machine) -> None:
    """Iterations on ever more interactions of the same users and items, beside a line through the first."""
    first: dict[str, float] = {}
    for draws in (500_000, 1_000_000, 2_000_000, 4_000_000, 8_000_000):
        matrix = zipf_interactions(50_000, 10_000, draws) * np.float32(SCALE)
        variants = {"exact": Ours(matrix, "exact"), "cg": Ours(matrix, "cg")}
        for solver, times in interleave(variants).items():  # type: ignore[arg-type]
            ours = float(np.median(times))
            linear = first.setdefault(solver, ours / matrix.nnz) * matrix.nnz
            floor, kind = machine.least_seconds(variants[solver].rows, solver)
            report.add_times(
                f"50k x 10k, {solver}",
                "linear from the smallest",
                [ours],
                [linear],
                metric="growth",
                num_interactions=matrix.nnz,
                bound_seconds=floor,
                bound=kind,
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
    return float(total / matrix.nnz)


@dataclass(frozen=True)
class Machine:
    """What the machine does at most, measured in the same run."""

    flops: float
    bytes: float

    def least_seconds(self, sides: Sequence[Rows], solver: str) -> tuple[float, str]:
        """The method's operations at GEMM speed or its bytes at the speed of a copy, and which it is."""
        operations = traffic = 0.0
        for rows in sides:
            filled = np.flatnonzero(np.diff(rows.indptr))
            k = np.add.reduceat(rows.weight != 0, rows.indptr[filled], dtype=np.float64)
            if solver == "cg":  # a residual, its diagonal and three products
                systems = (4 * 4 + 3) * k * FACTORS
            else:
                primal = k * FACTORS * (FACTORS + 1) + FACTORS**3 / 3 + 2 * FACTORS**2
                dual = k * (k + 1) * FACTORS + k**3 / 3 + 2 * k**2 + 2 * k * FACTORS
                systems = np.minimum(primal, dual)
            light = len(rows.indices) - k.sum()
            rotation = 3 * len(filled) * FACTORS**2  # its Gramian's triangle and the turn
            operations += float(systems.sum()) + 2 * light * FACTORS + rotation
            traffic += len(rows.indices) * 12 + len(filled) * FACTORS * 8
        compute, memory = operations / self.flops, traffic / self.bytes
        return (compute, "gemm speed") if compute > memory else (memory, "memory speed")
