"""ALS on the GPU: implicit's conjugate gradients and torch's batched Cholesky beside ours, at equal loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from benchmarks.datasets import confidence_rows, start_factors, zipf_interactions
from benchmarks.on_gpu.machine import ROUNDS, Gpu, Limits, current, implicit_gpu, measure
from benchmarks.on_gpu.peers import ImplicitAls, TorchAls
from benchmarks.runner import Report, interleave
from shopsight.kernels.rows import Rows

REGULARIZATION = 0.01
SHARE_WANTED = 0.4  # of the floor


@dataclass(frozen=True)
class Case:
    """`target_seconds` an iteration of the exact solver in float32, where one was set (for an H200)."""

    name: str
    make: Callable[[], sparse.csr_matrix]
    num_factors: int = 128
    target_seconds: float | None = None


def uniform_interactions(num_users: int, num_items: int, degree: int) -> sparse.csr_matrix:
    """`degree` draws of each user from all items alike; a pair drawn again weighs more. CSR float32."""
    items = np.random.default_rng(0).integers(0, num_items, num_users * degree)
    ones = np.ones(len(items), np.float32)
    users = np.repeat(np.arange(num_users), degree)
    matrix = sparse.csr_matrix((ones, (users, items)), (num_users, num_items))
    matrix.sum_duplicates()
    return matrix


CASES = (
    Case(
        "359k x 160k, 17.5M (as Last.fm-360k)",
        lambda: zipf_interactions(359_000, 160_000, 20_375_000),
        128,
        0.008,
    ),
    Case("worst: 150k x 50k, every user just below f", lambda: uniform_interactions(150_000, 50_000, 120)),
    Case("100k x 20k, 1M draws", lambda: zipf_interactions(100_000, 20_000, 1_000_000), 64),
)


def run(
    report: Report, gpu: Gpu | None = None, cases: tuple[Case, ...] = CASES, limits: Limits | None = None
) -> None:
    """Every case; `gpu` and `limits` are found and measured unless given."""
    gpu = gpu or current()
    limits = limits or measure(gpu)
    report.say(
        f"copy {limits.copy_bytes / 1e12:.2f} TB/s, float32 {limits.float32_flops / 1e12:.0f} TFLOP/s, "
        f"bfloat16 {limits.tensor_flops / 1e12:.0f} TFLOP/s"
    )
    if implicit_gpu() is None:
        report.say("implicit's GPU model is not at hand (implicit with rmm): torch stands alone")
    for case in cases:
        compare(report, gpu, case, limits)


def compare(report: Report, gpu: Gpu, case: Case, limits: Limits) -> None:
    """Rows of one case: each of ours against each peer, and against its floor."""
    matrix = case.make()
    start = start_factors(matrix.shape, case.num_factors)
    sides = confidence_rows(matrix, REGULARIZATION), confidence_rows(matrix.T.tocsr(), REGULARIZATION)
    ours = {
        f"{solver} {storage}": Ours(sides, start, solver, storage)
        for solver, storage in (("exact", "float32"), ("exact", "bfloat16"), ("cg", "float32"))
    }
    theirs: dict[str, Any] = {"torch batched cholesky": TorchAls(sides, start, gpu)}
    if (module := implicit_gpu()) is not None:
        theirs["implicit cg-3 (gpu)"] = ImplicitAls(module, matrix, start, REGULARIZATION)
    variants = {**ours, **theirs}
    seconds = interleave(variants, repeats=ROUNDS, budget_seconds=40, wait=gpu.wait)
    losses = {name: loss(gpu, sides[0], *variant.factors()) for name, variant in variants.items()}
    for name, mine in ours.items():
        details = {"num_interactions": matrix.nnz, "rounds": len(seconds[name]), "our_loss": losses[name]}
        for peer in theirs:
            allowed = losses[peer] + abs(losses[peer]) * (5e-4 if "float32" in name else 5e-3)
            report.add_times(
                f"{case.name}, {name}",
                peer,
                seconds[name],
                seconds[peer],
                metric="seconds an iteration",
                their_loss=losses[peer],
                equal_or_better_loss=losses[name] <= allowed,
                **details,
            )
        floor, parts = floor_seconds(sides, case.num_factors, mine.bytes_a_factor, limits)
        report.add_times(
            f"{case.name}, {name}",
            "floor: copy and gemm of this run",
            seconds[name],
            [floor] * len(seconds[name]),
            metric="share of the floor",
            wanted=SHARE_WANTED,
            target_seconds=case.target_seconds if name == "exact float32" else None,
            **parts,
            **details,
        )


class Ours:
    """Factors on the device that move by one iteration a call."""

    def __init__(self, sides: tuple[Rows, Rows], start: Any, solver: str, storage: str) -> None:
        import ml_dtypes

        from shopsight.kernels.cuda.als import AlsTraining

        dtype = np.dtype(ml_dtypes.bfloat16 if storage == "bfloat16" else storage)
        self.bytes_a_factor = dtype.itemsize
        self._training = AlsTraining(*sides, *(x.astype(dtype) for x in start), 1.0, solver, 3)

    def __call__(self) -> None:
        self._training.run_epoch()

    def factors(self) -> Any:
        return tuple(x.astype(np.float32) for x in self._training.result())


def loss(gpu: Gpu, rows: Rows, users: Any, items: Any, block: int = 2**21) -> float:
    """The objective per interaction without constants, float64 on the device, entries in blocks."""
    xp = gpu.xp
    x, y = (xp.asarray(part).astype(xp.float64) for part in (users, items))
    row_of = np.repeat(np.arange(rows.num_rows, dtype=np.int32), np.diff(rows.indptr))
    total = float(((x.T @ x) * (y.T @ y)).sum()) + REGULARIZATION * float((x * x).sum() + (y * y).sum())
    for begin in range(0, len(row_of), block):
        part = slice(begin, begin + block)
        scores = (x[xp.asarray(row_of[part])] * y[xp.asarray(rows.indices[part])]).sum(axis=1)
        weight, target = xp.asarray(rows.weight[part]), xp.asarray(rows.target[part])
        total += float((weight * scores * scores - 2 * target * scores).sum())
    return total / max(1, len(row_of))


def floor_seconds(
    sides: tuple[Rows, Rows], num_factors: int, factor_bytes: int, limits: Limits
) -> tuple[float, dict[str, float]]:
    """No exact iteration can be shorter: every gathered row read once, or its operations, the products at the
    speed of a bfloat16 GEMM and the solves at that of a float32 one. And what it is made of.
    """
    f, tensor, plain, moved = num_factors, 0.0, 0.0, 0.0
    for rows in sides:
        k = np.diff(rows.indptr).astype(np.float64)
        primal, dual = k * f * (f + 1), k * (k + 1) * f
        cheaper_dual = dual + k**3 / 3 < primal + f**3 / 3
        tensor += float(np.where(cheaper_dual, dual, primal).sum())
        plain += float(np.where(cheaper_dual, k**3 / 3 + 2 * k**2, f**3 / 3 + 2 * f**2)[k > 0].sum())
        moved += len(rows.indices) * (f * factor_bytes + 8) + rows.num_rows * f * factor_bytes
    parts = {"bytes": moved, "float32_operations": plain, "tensor_operations": tensor, **limits._asdict()}
    return max(moved / limits.copy_bytes, plain / limits.float32_flops + tensor / limits.tensor_flops), parts
