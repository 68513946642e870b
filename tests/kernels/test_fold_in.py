"""Factors kept on the backend fold rows in like the half step does."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from shopsight.kernels import als, dispatch
from shopsight.kernels.cuda import runtime
from shopsight.kernels.fold_in import FoldIn, fold_in
from tests.kernels.cuda_host.device import HostDevice
from tests.kernels.parity import BACKENDS, SHAPES, STORAGES, Shape, make_factors, make_rows


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("objective", ("observed", "confidence", "explicit"))
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_kept_factors_give_what_a_half_step_gives(backend, objective, shape):
    random = np.random.default_rng(1)
    rows, weight = make_rows(shape, objective, random)
    factors = make_factors(shape.num_columns, 20, np.float32, random)
    session = FoldIn(factors, weight, backend=backend)
    expected = als.half_step(rows, factors, weight, backend=backend)
    for _ in range(2):  # nothing of the first call is left in the second
        np.testing.assert_allclose(session.solve(rows), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("storage", STORAGES)
def test_one_row_at_a_time_gives_what_all_give_together(backend, storage):
    random = np.random.default_rng(2)
    rows, weight = make_rows(Shape("mixed", (0, 1, 9, 70, 200), 210), "observed", random)
    factors = make_factors(210, 32, storage, random)
    gramian = als.gramian(factors)
    session = FoldIn(factors, weight, gramian=gramian, backend=backend)
    together = fold_in(rows, factors, weight, gramian=gramian, backend=backend)
    assert together.dtype == storage
    for row in range(rows.num_rows):
        entries = slice(rows.indptr[row], rows.indptr[row + 1])
        one = rows._replace(
            indptr=np.array([0, entries.stop - entries.start]),
            indices=rows.indices[entries],
            weight=rows.weight[entries],
            target=rows.target[entries],
            regularization=rows.regularization[row : row + 1],
        )
        np.testing.assert_allclose(
            session.solve(one)[0], together[row], rtol=4 * np.finfo(storage).eps, atol=np.finfo(storage).eps
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_factors_are_taken_to_the_backend_once(backend):
    random = np.random.default_rng(3)
    rows, weight = make_rows(Shape("mixed", (4, 30), 50), "observed", random)
    factors = make_factors(50, 8, np.float32, random)
    session = FoldIn(factors, weight, backend=backend)
    expected = session.solve(rows)
    factors[:] = np.nan  # nobody looks there again
    np.testing.assert_array_equal(session.solve(rows), expected)


@pytest.mark.skipif(shutil.which("g++") is None, reason="the host harness needs g++")
@pytest.mark.parametrize("storage", STORAGES)
def test_the_cuda_body_run_on_the_host(storage, monkeypatch):
    monkeypatch.setattr(runtime, "device", HostDevice)
    monkeypatch.setattr(dispatch, "resolve", lambda _: SimpleNamespace(name="cuda"))
    test_one_row_at_a_time_gives_what_all_give_together("cuda", storage)
    test_the_factors_are_taken_to_the_backend_once("cuda")


def test_bad_rows_are_refused_by_name():
    random = np.random.default_rng(4)
    rows, weight = make_rows(Shape("small", (2, 3), 5), "observed", random)
    session = FoldIn(make_factors(5, 4, np.float32, random), weight, backend="cpu")
    with pytest.raises(ValueError, match=r"rows.indices: 5 lies outside 0..4"):
        session.solve(rows._replace(indices=rows.indices + np.int32(5 - rows.indices.max())))
    indefinite = rows._replace(weight=np.full(5, -100, np.float32))
    with pytest.raises(ValueError, match=r"row 0 .*not positive definite"):
        session.solve(indefinite)
    with pytest.raises(TypeError, match=r"factors.*float64"):
        FoldIn(np.ones((3, 2)), 0.1)
    with pytest.raises(ValueError, match="gramian: shape"):
        FoldIn(np.ones((3, 2), np.float32), 0.1, gramian=np.ones((3, 3)))
