"""Factors kept on the backend fold rows in like the half step does."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from kernels import als
from kernels import fold_in as fold_in_module
from kernels.cuda import runtime
from kernels.fold_in import FoldIn, fold_in
from kernels.reference import als as reference
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
    for module in (als, fold_in_module):
        monkeypatch.setattr(module, "resolve", lambda _: SimpleNamespace(name="cuda"))
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


@pytest.mark.parametrize("objective", ("observed", "confidence", "explicit"))
def test_bfloat16_storage_is_float32_arithmetic_on_rounded_factors(objective):
    random = np.random.default_rng(5)
    rows, weight = make_rows(Shape("mixed", (0, 1, 9, 70, 200), 210), objective, random)
    factors = make_factors(210, 50, ml_dtypes.bfloat16, random)
    found = als.half_step(rows, factors, weight, backend="cpu")
    assert found.dtype == ml_dtypes.bfloat16
    exact = als.half_step(rows, factors.astype(np.float32), weight, backend="cpu")
    np.testing.assert_array_equal(found, exact.astype(ml_dtypes.bfloat16))
    truth = reference.half_step(rows, factors, weight)
    rounding = float(ml_dtypes.finfo(ml_dtypes.bfloat16).eps)
    assert (np.abs(found.astype(np.float64) - truth) <= rounding * (np.abs(truth) + 1e-2)).all()


def test_bfloat16_epochs_stay_near_float32():
    random = np.random.default_rng(6)
    users, weight = make_rows(Shape("mixed", tuple(random.integers(0, 30, 60)), 45), "observed", random)
    row_of = np.repeat(np.arange(60), np.diff(users.indptr))
    order = np.lexsort((row_of, users.indices))
    counts = np.bincount(users.indices, minlength=45)
    items = users._replace(
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        indices=row_of[order].astype(np.int32),
        regularization=np.full(45, 0.2, np.float32),
    )
    x, y = (make_factors(n, 16, np.float32, random) * np.float32(0.1) for n in (60, 45))
    exact = als.alternate(users, items, x, y, weight, num_epochs=3, backend="cpu")
    half = (part.astype(ml_dtypes.bfloat16) for part in (x, y))
    found = als.alternate(users, items, *half, weight, num_epochs=3, backend="cpu")
    scores = found[0].astype(np.float32) @ found[1].astype(np.float32).T
    assert found[0].dtype == ml_dtypes.bfloat16
    np.testing.assert_allclose(scores, exact[0] @ exact[1].T, atol=0.05)
