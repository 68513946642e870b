"""Polynomial graph filters against the filter with the matrix of pairs written out in float64."""

from __future__ import annotations

import numpy as np
import pytest

from shopsight.kernels.cuda import graph_filter as on_gpu
from shopsight.kernels.cuda import runtime
from shopsight.kernels.graph_filter import graph_filter
from shopsight.kernels.reference.graph_filter import graph_filter as reference
from tests.kernels.parity import BACKENDS, SHAPES, make_csr

COEFFICIENTS = ([0.5], [0.0, 1.0], [1.0, -2.5, 3.125, -2.6, 1.6])


def _case(shape, num_signals, seed=0):
    random = np.random.default_rng(seed)
    indptr, indices = make_csr(shape, random)
    values = random.normal(size=len(indices)).astype(np.float32)
    values /= max(1.0, float(np.abs(values).sum()) ** 0.5)
    signals = random.normal(size=(shape.num_columns, num_signals)).astype(np.float32)
    return indptr, indices, values, signals


def _assert_close(found, case, coefficients):
    truth = reference(*case, coefficients)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, truth, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(truth).max(initial=0)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("num_signals", [0, 1, 3, 130])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_filters_are_those_of_the_reference(backend, shape, num_signals):
    for coefficients in COEFFICIENTS:
        case = _case(shape, num_signals)
        before = [array.copy() for array in case]
        _assert_close(graph_filter(*case, coefficients, backend=backend), case, coefficients)
        assert all((array == old).all() for array, old in zip(case, before, strict=True))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_the_gpus_body_is_right_where_numpy_stands_for_the_device(monkeypatch, shape):
    class Host:
        xp = np

    monkeypatch.setattr(runtime, "device", Host)
    for coefficients in COEFFICIENTS:
        case = _case(shape, 3)
        _assert_close(on_gpu.graph_filter(*case, coefficients), case, coefficients)


def test_there_may_be_no_rows_and_no_columns():
    nothing = np.zeros(0, np.int32), np.zeros(0, np.float32)
    signals = np.ones((2, 1), np.float32)
    found = graph_filter(np.zeros(1, np.int64), *nothing, signals, [2.0, 1.0], backend="cpu")
    assert found.tolist() == [[2.0], [2.0]]
    assert graph_filter(np.zeros(3, np.int64), *nothing, signals[:0], [1.0, 1.0], backend="cpu").size == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"signals": np.zeros(3, np.float32)}, TypeError, "signals"),
        ({"signals": np.zeros((3, 2))}, TypeError, "signals: must be a float32"),
        ({"signals": np.zeros((2, 3), np.float32).T}, ValueError, "signals: must be C-contiguous"),
        ({"signals": np.full((3, 2), np.nan, np.float32)}, ValueError, "signals"),
        ({"values": np.array([np.inf, 1], np.float32)}, ValueError, "values"),
        ({"values": np.ones(3, np.float32)}, ValueError, "values: shape"),
        ({"indices": np.array([0, 3], np.int32)}, ValueError, "rows.indices: 3 lies outside"),
        ({"coefficients": []}, ValueError, "coefficients: there must be at least one"),
        ({"coefficients": [1.0, float("nan")]}, ValueError, r"coefficients\[1\]"),
    ],
)
def test_wrong_arguments_are_refused(change, error, message):
    right = {
        "indptr": np.array([0, 1, 2]), "indices": np.array([0, 2], np.int32),
        "values": np.ones(2, np.float32), "signals": np.ones((3, 2), np.float32), "coefficients": [1.0],
    }  # fmt: skip
    with pytest.raises(error, match=message):
        graph_filter(**(right | change), backend="cpu")
