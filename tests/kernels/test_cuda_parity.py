"""The parity suite of every backend, kept by the CUDA sources run on the CPU through the public functions."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from shopsight.kernels import als, dispatch
from shopsight.kernels.cuda import als as cuda_als
from shopsight.kernels.cuda import basis, runtime
from tests.kernels import test_als, test_descent, test_topk
from tests.kernels.cuda_host.device import HostDevice
from tests.kernels.parity import FACTORS, SHAPES, STORAGES
from tests.kernels.test_cuda_als import diagonalise

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the host harness needs g++")


@pytest.fixture(autouse=True)
def cuda_on_the_host(monkeypatch):
    monkeypatch.setattr(dispatch, "resolve", lambda _: SimpleNamespace(name="cuda"))
    monkeypatch.setattr(runtime, "device", HostDevice)

    def no_rescue(*arguments) -> None:
        assert not arguments[-1].any(), "a row was left to float64, which would hide a kernel that goes wrong"

    monkeypatch.setattr(cuda_als, "rescue", no_rescue)
    monkeypatch.setattr(basis, "diagonalise", diagonalise)


@pytest.mark.parametrize("objective", test_als.OBJECTIVES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_exact_half_step(objective, shape):
    test_als.test_the_exact_half_step_is_the_float64_solution("cuda", objective, shape)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("num_factors", FACTORS)
def test_number_of_factors(storage, num_factors):
    test_als.test_every_number_of_factors_in_either_storage("cuda", storage, num_factors)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_conjugate_gradients(shape):
    test_als.test_conjugate_gradients_lead_to_the_exact_solution("cuda", shape, "confidence")


def test_conjugate_steps():
    test_als.test_each_conjugate_step_lowers_the_objective("cuda")


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("solver", als.SOLVERS)
def test_epochs(storage, solver):
    test_als.test_epochs_are_their_half_steps_one_after_the_other("cuda", storage, solver)


def test_seen_items_leave_empty_slots():
    test_topk.test_a_user_who_has_seen_everything_gets_empty_slots("cuda")


@pytest.mark.parametrize("storage", STORAGES)
def test_descent_learns(storage):
    test_descent.test_sgd_learns_ratings_that_factors_explain("cuda", storage)
    test_descent.test_bpr_learns_to_put_liked_items_first("cuda", storage)
