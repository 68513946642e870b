"""No kernel has a race in shared memory, over a tour of all; a barrier that is taken out is found."""

from __future__ import annotations

import shutil

import ml_dtypes
import numpy as np
import pytest

from benchmarks.on_gpu import tour
from shopsight.kernels.cuda import als, basis, runtime
from shopsight.kernels.cuda.layout import Layout
from shopsight.kernels.rows import Rows
from tests.kernels.cuda_host import device
from tests.kernels.cuda_host.device import HostDevice, KernelFault
from tests.kernels.test_cuda_als import diagonalise

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the host harness needs g++")


@pytest.fixture(autouse=True)
def on_host(monkeypatch):
    monkeypatch.setattr(runtime, "device", lambda: HostDevice(2, watch_races=True))
    monkeypatch.setattr(basis, "diagonalise", diagonalise)


@pytest.mark.parametrize(("num_factors", "storage"), [(50, np.float32), (100, ml_dtypes.bfloat16)])
def test_a_tour_of_all_kernels_has_no_race(num_factors, storage):
    tour.main(num_factors, (storage,))


def test_the_eigenvectors_have_no_race(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(runtime, "device", lambda: HostDevice(1, watch_races=True))
    host = runtime.device()
    matrix = np.cov(np.random.default_rng(0).standard_normal((12, 40)))
    vectors = np.eye(12)
    basis.diagonalise(host, Layout(12, "float32"), matrix, 1e-6, vectors)
    diagonal = vectors.T @ matrix @ vectors
    assert np.allclose(diagonal, np.diag(np.diag(diagonal)), atol=1e-4)


def long_rows() -> tuple[Rows, np.ndarray]:
    random = np.random.default_rng(0)
    indices = np.concatenate([np.sort(random.choice(400, 300, replace=False)) for _ in range(2)]).astype(
        np.int32
    )
    weight = random.gamma(1, 2, len(indices)).astype(np.float32)
    rows = Rows(np.arange(3) * 300, indices, weight, weight, np.full(2, 0.5, np.float32))
    return rows, (random.standard_normal((400, 64)) * 0.3).astype(np.float32)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_conjugate_gradients_without_a_step_have_no_race(monkeypatch, order):
    """A row whose residual is zero from the start leaves the loop before its first barrier."""
    monkeypatch.setattr(runtime, "device", lambda: HostDevice(order, 100 * 1024, watch_races=True))
    rows, factors = long_rows()
    nothing = Rows(rows.indptr, rows.indices, rows.weight, np.zeros_like(rows.target), rows.regularization)
    found = als.half_step(nothing, factors, 0.0, "cg", 3, np.zeros((2, 64), np.float32))
    assert (found == 0).all()


@pytest.mark.parametrize("number", [0, 4])
def test_a_barrier_that_is_taken_out_is_found(monkeypatch, number):
    original = device.assemble_source

    def broken(name: str) -> str:
        pieces = original(name).split("__syncthreads();")
        if name != "als_primal.cu":
            return original(name)
        place = len(pieces) - 2 - number
        return "__syncthreads();".join(pieces[:place]) + "".join(pieces[place : place + 2]) + "".join(
            "__syncthreads();" + piece for piece in pieces[place + 2 :]
        )  # fmt: skip

    monkeypatch.setattr(device, "assemble_source", broken)
    rows, factors = long_rows()
    with pytest.raises(KernelFault, match="race at byte"):
        als.half_step(rows, factors, 0.5, "cg", 3, np.ones((2, 64), np.float32))
