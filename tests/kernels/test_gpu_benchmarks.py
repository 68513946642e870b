"""The GPU branches of the benchmarks run to their end, NumPy in cupy's place, on the host harness."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import bench_als, bench_bpr, bench_sgd, bench_topk
from benchmarks.on_gpu import als, descent, machine, topk, tour
from benchmarks.plots import plot_ratios
from benchmarks.runner import Report
from shopsight.kernels.cuda import basis, runtime
from tests.kernels.cuda_host.device import KERNEL_NAME, HostDevice
from tests.kernels.test_cuda_als import diagonalise

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the host harness needs g++")

GPU = machine.Gpu(np, "cpu", lambda: None)
DIAGONALISE = basis.diagonalise
LIMITS = machine.Limits(1e10, 1e11, 1e12)


@pytest.fixture(autouse=True)
def on_host(monkeypatch):
    monkeypatch.setattr(runtime, "device", HostDevice)
    monkeypatch.setattr(basis, "diagonalise", diagonalise)
    monkeypatch.setattr("benchmarks.runner._SETTLING_SECONDS", 0.0)
    for module in (als, descent, topk):
        monkeypatch.setattr(module, "ROUNDS", 1)


class FakeImplicit:
    """As much of implicit.gpu as the peers touch."""

    HAS_CUDA = True

    class Matrix(np.ndarray):
        def __new__(cls, data):
            return np.array(data, np.float32).view(cls)

        @classmethod
        def zeros(cls, rows, columns):
            return cls(np.zeros((rows, columns)))

        def to_numpy(self):
            return np.asarray(self)

    CSRMatrix = staticmethod(lambda matrix: matrix)
    IntVector = staticmethod(lambda data: data)

    class LeastSquaresSolver:
        def calculate_yty(self, factors, out, regularization):
            out[:] = factors.T @ factors + regularization * np.eye(factors.shape[1])

        def least_squares(self, side, solved, gramian, fixed, steps):
            assert side.shape == (len(solved), len(fixed)) and gramian.shape[0] == 8 and steps == 3

    @staticmethod
    def bpr_update(users, items, indptr, *rest):
        assert len(users) == len(items) == indptr[-1] and len(rest) == 6


@pytest.mark.parametrize("with_implicit", [False, True])
def test_als_reports_every_peer_and_the_floor(monkeypatch, with_implicit, tmp_path):
    monkeypatch.setattr(als, "implicit_gpu", lambda: FakeImplicit if with_implicit else None)
    cases = (als.Case("tiny", lambda: als.uniform_interactions(30, 20, 6), 8, 0.008),)
    report = Report("als", "test")
    als.run(report, GPU, cases, LIMITS)
    rows = rows_of(report, tmp_path)
    assert {row["case"] for row in rows} == {
        "tiny, exact float32",
        "tiny, exact bfloat16",
        "tiny, cg float32",
    }
    assert len(rows) == 3 * (3 if with_implicit else 2)
    exact = [row for row in rows if row["case"] == "tiny, exact float32"]
    assert all(row["details"]["equal_or_better_loss"] for row in exact if "torch" in row["peer"])
    floor = next(row for row in exact if row["peer"].startswith("floor"))
    assert floor["details"]["target_seconds"] == 0.008 and 0 < floor["theirs"] < 1


def test_the_textbook_peer_in_torch_is_the_exact_solution():
    matrix = als.uniform_interactions(40, 25, 7)
    sides = als.confidence_rows(matrix, 0.01), als.confidence_rows(matrix.T.tocsr(), 0.01)
    start = als.start_factors(matrix.shape, 8)
    peer, ours = als.TorchAls(sides, start, GPU, room=500), als.Ours(sides, start, "exact", "float32")
    peer()
    ours()
    np.testing.assert_allclose(
        peer.factors()[0] @ peer.factors()[1].T, ours.factors()[0] @ ours.factors()[1].T, atol=1e-3
    )
    users, items = (part.astype(np.float64) for part in ours.factors())
    assert als.loss(GPU, sides[0], users, items, block=50) == pytest.approx(
        bench_als.loss(matrix, users, items) - float(matrix.sum()) / matrix.nnz, rel=1e-5
    )


def test_descent_reports_every_peer_and_the_floor(monkeypatch, tmp_path):
    monkeypatch.setattr(descent, "implicit_gpu", lambda: FakeImplicit)
    shapes = (("tiny", 40, 30, 600, 8),)
    report = Report("sgd", "test")
    descent.run_sgd(report, GPU, shapes, LIMITS)
    rows = rows_of(report, tmp_path)
    assert [row["peer"].split(":")[0] for row in rows] == ["torch batches", "floor"] * 2
    assert all(row["details"]["equal_or_better_rmse"] for row in rows if "float32" in row["case"])
    report = Report("bpr", "test")
    descent.run_bpr(report, GPU, shapes, LIMITS)
    peers = [row["peer"] for row in rows_of(report, tmp_path)]
    assert peers.count("implicit (gpu)") == 4 and sum(peer.startswith("floor") for peer in peers) == 2


def test_topk_reports_every_peer_and_the_floor(monkeypatch, tmp_path):
    monkeypatch.setattr(topk, "implicit_gpu", lambda: None)
    report = Report("topk", "test")
    topk.run(report, GPU, ((20, 400, 16),), LIMITS)
    rows = rows_of(report, tmp_path)
    assert len(rows) == 6 and all(row["details"]["same_items_as_torch"] > 0.9 for row in rows)


def test_the_command_takes_the_gpu_branch_where_there_is_one(monkeypatch):
    taken = []
    for module in (bench_als, bench_bpr, bench_sgd, bench_topk):
        monkeypatch.setattr(module, "resolve", lambda: SimpleNamespace(name="cuda"))
    for module, name in ((als, "run"), (topk, "run"), (descent, "run_sgd"), (descent, "run_bpr")):
        monkeypatch.setattr(module, name, lambda _, name=name: taken.append(name))
    for module in (bench_als, bench_bpr, bench_sgd, bench_topk):
        module.run(Report("any", "test"))
    assert taken == ["run", "run_bpr", "run_sgd", "run"]


def test_what_the_device_can_do_is_measured():
    limits = machine.measure(GPU, size=64, copied_bytes=2**16)
    assert all(np.isfinite(limits)) and min(limits) > 0


def test_the_tour_meets_every_kernel(monkeypatch):
    monkeypatch.setattr(basis, "diagonalise", DIAGONALISE)
    launched = set()
    launch = HostDevice.launch
    monkeypatch.setattr(
        HostDevice,
        "launch",
        lambda self, kernel, *rest: (launched.add(kernel.name), launch(self, kernel, *rest))[1],
    )
    tour.main(36, (np.float32,))
    text = "".join(path.read_text() for path in runtime.SOURCES.glob("*.cu"))
    assert launched == set(KERNEL_NAME.findall(text))


def rows_of(report, folder):
    """The rows as the file keeps them; a plot of them can be drawn."""
    rows = json.loads(json.dumps([asdict(row) for row in report.rows]))
    for row in rows:
        assert all(
            row[key] is not None for key in ("ours", "theirs", "ratio", "p20", "p80", "unit", "commit")
        )
    plot_ratios(rows, folder / "plot.png")
    assert (folder / "plot.png").stat().st_size > 1000
    return rows
