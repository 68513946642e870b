"""bfloat16 storage in every CUDA kernel: on a GPU where there is one, and on the host harness."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from shopsight.kernels import als, dispatch
from shopsight.kernels import topk as topk_module
from shopsight.kernels.backend import available
from shopsight.kernels.cuda import runtime
from shopsight.kernels.reference import als as reference
from shopsight.kernels.reference import topk as topk_reference
from tests.kernels import test_descent
from tests.kernels.cuda_host.device import HostDevice
from tests.kernels.parity import Shape, make_csr, make_factors, make_rows

BFLOAT16 = ml_dtypes.bfloat16
ROUNDING = float(ml_dtypes.finfo(BFLOAT16).eps)


@pytest.fixture(
    autouse=True,
    params=[
        pytest.param(
            "host", marks=pytest.mark.skipif(shutil.which("g++") is None, reason="the harness needs g++")
        ),
        pytest.param(
            "gpu",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(len(available()) < 2, reason="no CUDA device with cupy on this machine"),
            ],
        ),
    ],
)
def device(request, monkeypatch):
    if request.param == "host":
        monkeypatch.setattr(runtime, "device", HostDevice)
        monkeypatch.setattr(dispatch, "resolve", lambda _: SimpleNamespace(name="cuda"))


@pytest.mark.parametrize("solver", als.SOLVERS)
def test_a_half_step_is_float32_arithmetic_on_rounded_factors(solver):
    random = np.random.default_rng(1)
    rows, weight = make_rows(Shape("mixed", (0, 1, 5, 31, 40, 150, 300), 320), "confidence", random)
    factors = make_factors(320, 50, BFLOAT16, random)
    start = make_factors(7, 50, BFLOAT16, random) if solver == "cg" else None
    found = als.half_step(
        rows, factors, weight, solver=solver, num_cg_steps=150, initial=start, backend="cuda"
    )
    truth = reference.half_step(rows, factors, weight)
    assert found.dtype == BFLOAT16
    # the turned factors are rounded too, as they are stored so
    error = np.linalg.norm(found.astype(np.float64) - truth, axis=1)
    assert (error <= 2 * ROUNDING * np.linalg.norm(truth, axis=1)).all()


def test_the_best_items_are_those_of_the_rounded_factors():
    random = np.random.default_rng(2)
    users, items = (make_factors(n, 24, BFLOAT16, random) for n in (70, 900))
    indptr, indices = make_csr(Shape("seen", tuple(random.integers(0, 90, 70)), 900), random)
    found = topk_module.topk(users, items, 12, exclude_indptr=indptr, exclude_indices=indices, backend="cuda")
    truth = topk_reference.topk(users, items, 12, indptr, indices)
    np.testing.assert_allclose(found[1], truth[1], rtol=1e-5, atol=1e-5)
    assert (found[0] == truth[0]).mean() > 0.99


def test_descents_learn():
    test_descent.test_sgd_learns_ratings_that_factors_explain("cuda", BFLOAT16)
    test_descent.test_bpr_learns_to_put_liked_items_first("cuda", BFLOAT16)
