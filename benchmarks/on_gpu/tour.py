"""Every kernel once on small, awkward shapes, for compute-sanitizer: python -m benchmarks.on_gpu.tour"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from shopsight.kernels.cuda import runtime
from shopsight.kernels.cuda.als import AlsTraining
from shopsight.kernels.cuda.bpr import BprTraining
from shopsight.kernels.cuda.sgd import SgdTraining
from shopsight.kernels.cuda.topk import topk
from shopsight.kernels.rows import Rows

DEGREES = (0, 1, 3, 15, 16, 17, 31, 40, 50, 63, 64, 70, 90, 99, 100, 128, 200, 299, 2500)
NUM_ITEMS = 300


def main(num_factors: int = 100, storages: tuple[Any, ...] = (np.float32, ml_dtypes.bfloat16)) -> None:
    """Trains and ranks; raises where a result is not finite. The sanitizer looks on meanwhile."""
    random = np.random.default_rng(0)
    users, items = _sides(random)
    indptr, seen = _seen(random)
    for storage in storages:
        x, y = (
            (random.standard_normal((n, num_factors)) * 0.1).astype(storage)
            for n in (users.num_rows, NUM_ITEMS)
        )
        for solver in ("exact", "cg"):
            training = AlsTraining(users, items, x, y, 0.1, solver, 3)
            training.run_epoch()
            training.result()
        biases = np.zeros(users.num_rows, np.float32), np.zeros(NUM_ITEMS, np.float32)
        descent = SgdTraining(users.indptr, users.indices, users.target, x, y, *biases, 1.0)
        descent.run_pass(0.01, 0.01, 0.01, 0.01, 0, 0)
        assert np.isfinite(descent.squared_error())
        ranking = BprTraining(indptr, seen, x, y)
        ranking.run_pass(0.05, 0.01, 0, 0)
        ranking.result()
        topk(x, y, 7, indptr, seen, np.arange(0, NUM_ITEMS, 50, dtype=np.int32))


def _sides(random: np.random.Generator) -> tuple[Rows, Rows]:
    degrees = np.array(DEGREES)
    columns = np.concatenate([np.sort(random.integers(0, NUM_ITEMS, d)) for d in degrees]).astype(np.int32)
    weight = random.random(len(columns)).astype(np.float32)
    weight[::7] = 0
    row_of = np.repeat(np.arange(len(degrees), dtype=np.int32), degrees)
    order = np.argsort(columns, kind="stable")
    sides = []
    for counts, indices, at in (
        (degrees, columns, slice(None)),
        (np.bincount(columns, minlength=NUM_ITEMS), row_of[order], order),
    ):
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        held = np.full(len(counts), 0.1, np.float32)
        sides.append(Rows(indptr, indices, weight[at], weight[at] + np.float32(0.5), held))
    return sides[0], sides[1]


def _seen(random: np.random.Generator) -> tuple[Any, Any]:
    counts = np.minimum(DEGREES, NUM_ITEMS)
    seen = [np.sort(random.choice(NUM_ITEMS, int(n), replace=False)) for n in counts]
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), np.concatenate(seen).astype(np.int32)


if __name__ == "__main__":
    xp = runtime.device().xp
    xp.cuda.set_allocator(None)  # every array an allocation of its own, so that its end is seen
    main()
    xp.cuda.Device().synchronize()
    print("every kernel ran")
