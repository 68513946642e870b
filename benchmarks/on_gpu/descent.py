"""SGD and BPR on the GPU against torch (and implicit), beside the bytes that an update cannot do without."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from benchmarks.datasets import start_factors, zipf_interactions
from benchmarks.on_gpu.machine import ROUNDS, Gpu, Limits, current, implicit_gpu, measure
from benchmarks.on_gpu.peers import ImplicitBpr, TorchBpr, TorchSgd
from benchmarks.runner import Report, interleave

SHARE_WANTED = 0.7  # of the floor
SHAPES = (
    ("359k x 160k, 17.5M (as Last.fm-360k)", 359_000, 160_000, 20_375_000, 128),
    ("worst: 20k x 200 items, 2M draws", 20_000, 200, 2_000_000, 64),
)
STORAGES = ("float32", "bfloat16")


def run_sgd(
    report: Report, gpu: Gpu | None = None, shapes: Any = SHAPES, limits: Limits | None = None
) -> None:
    """Passes over ratings that a few hidden factors explain; error after equally many passes."""
    from benchmarks.bench_sgd import RATES

    gpu = gpu or current()
    limits = limits or measure(gpu)
    for name, num_users, num_items, draws, f in shapes:
        matrix = zipf_interactions(num_users, num_items, draws)
        data, state = ratings_of(matrix, f)
        theirs = TorchSgd(data, state, RATES, gpu)
        ours = {storage: OurSgd(matrix, data[2], state, RATES, storage) for storage in STORAGES}
        seconds = interleave({**ours, "torch": theirs}, repeats=ROUNDS, budget_seconds=25, wait=gpu.wait)
        for storage, mine in ours.items():
            error, their_error = mine.error(), theirs.error()
            details = {
                "our_rmse": error,
                "their_rmse": their_error,
                "equal_or_better_rmse": error <= their_error * 1.02,
                "rounds": len(seconds[storage]),
            }
            floor = (2 * f * mine.bytes_a_factor + 20) / limits.copy_bytes
            _report(
                report,
                f"{name}, sgd f={f} {storage}",
                matrix.nnz,
                seconds[storage],
                {"torch batches": seconds["torch"]},
                floor,
                limits,
                details,
            )


def run_bpr(
    report: Report, gpu: Gpu | None = None, shapes: Any = SHAPES, limits: Limits | None = None
) -> None:
    """Passes over interactions; AUC on a tenth of them, held out, after equally many passes."""
    from benchmarks.bench_bpr import RATE, REGULARIZATION, auc, split

    gpu = gpu or current()
    limits = limits or measure(gpu)
    module = implicit_gpu()
    if module is None:
        report.say("implicit's GPU model is not at hand (implicit with rmm): torch stands alone")
    for name, num_users, num_items, draws, f in shapes:
        known, held_out = split(zipf_interactions(num_users, num_items, draws))
        start = start_factors(known.shape, f)
        theirs: dict[str, Any] = {
            "torch batches, unchecked negatives": TorchBpr(known, start, RATE, REGULARIZATION, gpu)
        }
        if module is not None:
            theirs["implicit (gpu)"] = ImplicitBpr(module, known, start, RATE, REGULARIZATION)
        ours = {storage: OurBpr(known, start, RATE, REGULARIZATION, storage) for storage in STORAGES}
        seconds = interleave({**ours, **theirs}, repeats=ROUNDS, budget_seconds=25, wait=gpu.wait)
        scores = {
            key: auc(known, held_out, *variant.factors()) for key, variant in {**ours, **theirs}.items()
        }
        for storage, mine in ours.items():
            case = f"{name}, bpr f={f} {storage}"
            for peer in theirs:
                report.add_value(case, peer, "held-out auc", scores[storage], scores[peer], "auc")
            floor = (4 * f * mine.bytes_a_factor + 4) / limits.copy_bytes
            details = {
                "our_auc": scores[storage],
                "rounds": len(seconds[storage]),
                "equal_or_better_auc": scores[storage] >= max(scores[peer] for peer in theirs) - 0.005,
            }
            _report(
                report,
                case,
                known.nnz,
                seconds[storage],
                {peer: seconds[peer] for peer in theirs},
                floor,
                limits,
                details,
            )


def _report(
    report: Report,
    case: str,
    updates: int,
    mine: list[float],
    theirs: dict[str, list[float]],
    floor_seconds: float,
    limits: Limits,
    details: dict[str, Any],
) -> None:
    ours = [s / updates * 1e9 for s in mine]
    for peer, seconds in theirs.items():
        report.add_times(
            case,
            peer,
            ours,
            [s / updates * 1e9 for s in seconds],
            metric="time an update",
            unit="ns",
            **details,
        )
    report.add_times(
        case,
        "floor: bytes at the copy's speed",
        ours,
        [floor_seconds * 1e9] * len(ours),
        metric="share of the floor",
        unit="ns",
        wanted=SHARE_WANTED,
        **limits._asdict(),
        **details,
    )


def ratings_of(matrix: Any, num_factors: int) -> tuple[Any, Any]:
    """(users, items, ratings) in the matrix's order and the state that every variant starts from."""
    random = np.random.default_rng(1)
    taste, trait = (random.standard_normal((n, 4)).astype(np.float32) for n in matrix.shape)
    users = np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(matrix.indptr))
    ratings = np.empty(matrix.nnz, np.float32)
    for begin in range(0, matrix.nnz, 2**22):
        part = slice(begin, begin + 2**22)
        ratings[part] = 3 + (taste[users[part]] * trait[matrix.indices[part]]).sum(axis=1) / 2
    biases = (np.zeros(n, np.float32) for n in matrix.shape)
    state = (*start_factors(matrix.shape, num_factors), *biases, float(ratings.mean()))
    return (users, matrix.indices.astype(np.int32), ratings), state


def _dtype(storage: str) -> Any:
    return np.dtype(ml_dtypes.bfloat16 if storage == "bfloat16" else storage)


class OurSgd:
    """One pass a call, everything on the device."""

    def __init__(self, matrix: Any, ratings: Any, state: Any, rates: Any, storage: str) -> None:
        from shopsight.kernels.cuda.sgd import SgdTraining

        factors = tuple(x.astype(_dtype(storage)) for x in state[:2])
        self.bytes_a_factor = factors[0].itemsize
        indptr, items = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
        self._training = SgdTraining(indptr, items, ratings, *factors, *state[2:])
        self._rates, self._epoch, self._size = tuple(rates), 0, matrix.nnz

    def __call__(self) -> None:
        self._training.run_pass(*self._rates, 0, self._epoch)
        self._epoch += 1

    def error(self) -> float:
        return float(np.sqrt(self._training.squared_error() / max(1, self._size)))


class OurBpr:
    """One pass a call, everything on the device."""

    def __init__(self, matrix: Any, start: Any, rate: float, held: float, storage: str) -> None:
        from shopsight.kernels.cuda.bpr import BprTraining

        factors = tuple(x.astype(_dtype(storage)) for x in start)
        self.bytes_a_factor = factors[0].itemsize
        self._training = BprTraining(
            matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), *factors
        )
        self._rates, self._epoch = (rate, held), 0

    def __call__(self) -> None:
        self._training.run_pass(*self._rates, 0, self._epoch)
        self._epoch += 1

    def factors(self) -> Any:
        return tuple(x.astype(np.float32) for x in self._training.result())
