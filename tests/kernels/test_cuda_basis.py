"""Gramian, eigenvectors and rotation by the CUDA sources, run on the CPU, against float64."""

from __future__ import annotations

import shutil

import ml_dtypes
import numpy as np
import pytest

from shopsight.kernels.cuda import basis
from shopsight.kernels.cuda.layout import Layout, all_finite, to_device, to_float32, to_host
from shopsight.kernels.cuda.runtime import assemble_source
from tests.kernels.cuda_host.device import HostDevice, run_source

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the host harness needs g++")

STORAGES = (np.float32, np.float16, ml_dtypes.bfloat16)


def make_factors(num_rows, num_factors, storage=np.float32, seed=0, decay=0.0):
    factors = np.random.default_rng(seed).standard_normal((num_rows, num_factors))
    return (factors * np.exp(-decay * np.arange(num_factors) / num_factors) * 0.3).astype(storage)


def off_diagonal(found: basis.Basis, gramian: np.ndarray) -> float:
    """What remains beside the diagonal, relative to each pair of eigenvalues."""
    rotation = found.rotation.astype(np.float64)
    turned = rotation.T @ gramian @ rotation
    scale = np.sqrt(np.outer(np.diag(turned), np.diag(turned)))
    return float(np.abs(turned / scale - np.eye(len(turned))).max())


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize(("num_factors", "decay"), [(1, 0), (2, 0), (7, 3), (50, 6), (64, 0)])
def test_eigenvectors_make_the_gramian_diagonal(num_factors, decay, order):
    factors = make_factors(300, num_factors, decay=decay)
    layout = Layout.of(factors)
    gramian = factors.astype(np.float64).T @ factors
    found = basis.eigenbasis(
        HostDevice(order), layout, to_device(HostDevice(), layout, factors), 0.5, gramian
    )
    assert off_diagonal(found, gramian) < 1e-6
    np.testing.assert_allclose(np.sort(found.span), np.linalg.eigvalsh(gramian), rtol=1e-6)
    np.testing.assert_allclose(found.spectrum, 0.5 * found.span, rtol=1e-6)


def test_a_nearly_diagonal_matrix_of_the_largest_size_takes_few_sweeps(monkeypatch):
    """As between epochs; also the only look at 256 factors, whose every sweep takes the harness a second."""
    monkeypatch.setattr(basis, "_ROUGH", 1.0)
    random = np.random.default_rng(0)
    near = np.eye(256) + 1e-6 * random.standard_normal((256, 256))
    gramian = near @ np.diag(np.exp(-np.arange(256) / 40)) @ near.T
    layout = Layout(256, "float32")
    found = basis.eigenbasis(HostDevice(), layout, np.empty((0, 256), np.float32), 1.0, gramian)
    assert off_diagonal(found, gramian) < 1e-6


@pytest.mark.parametrize("gramian", [np.zeros((6, 6)), np.ones((6, 6)), np.eye(6)])
def test_matrices_without_full_rank_or_distinct_eigenvalues(gramian):
    found = basis.eigenbasis(
        HostDevice(), Layout(6, "float32"), np.empty((0, 8), np.float32), 1.0, gramian.astype(np.float64)
    )
    rotation = found.rotation.astype(np.float64)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(6), atol=1e-6)
    np.testing.assert_allclose(rotation.T @ gramian @ rotation, np.diag(found.span), atol=1e-6)


def test_factors_that_diverged_are_passed_on():
    layout = Layout(8, "float32")
    found = basis.eigenbasis(HostDevice(), layout, np.empty((0, 8), np.float32), 1.0, np.full((8, 8), np.nan))
    assert np.isnan(found.spectrum).all()


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(
    ("num_rows", "num_factors"), [(0, 8), (1, 1), (63, 50), (130, 128), (80, 160), (200, 256)]
)
def test_the_gramian_is_that_of_float64(num_rows, num_factors, storage):
    factors = make_factors(num_rows, num_factors, storage)
    layout = Layout.of(factors)
    found = basis.measure_gramian(HostDevice(), layout, to_device(HostDevice(), layout, factors))
    plain = factors.astype(np.float64)
    np.testing.assert_allclose(found, plain.T @ plain, atol=1e-5 * max(1, num_rows) ** 0.5, rtol=1e-5)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(("num_rows", "num_factors"), [(1, 1), (64, 8), (65, 50), (130, 72), (70, 256)])
def test_a_rotation_is_a_product_also_in_its_own_place(num_rows, num_factors, storage):
    device, factors = HostDevice(), make_factors(num_rows, num_factors, storage)
    layout = Layout.of(factors)
    rotation = np.linalg.qr(make_factors(num_factors, num_factors, seed=1))[0].astype(np.float32)
    stored = to_device(device, layout, factors)
    turned = basis.rotate(device, layout, stored, rotation)
    truth = factors.astype(np.float64) @ rotation
    allowed = float(ml_dtypes.finfo(storage).eps) + 1e-6
    np.testing.assert_allclose(to_float32(layout, turned), truth, rtol=allowed, atol=allowed)
    np.testing.assert_array_equal(basis.rotate(device, layout, stored, rotation, stored), turned)


@pytest.mark.parametrize("storage", STORAGES)
def test_factors_survive_the_way_to_the_device_and_back(storage):
    device, factors = HostDevice(), make_factors(5, 13, storage)
    layout = Layout.of(factors)
    stored = to_device(device, layout, factors)
    assert stored.shape == (5, 16) and not stored[:, 13:].any()
    back = to_host(device, layout, stored)
    assert back.dtype == storage
    np.testing.assert_array_equal(back.astype(np.float64), factors.astype(np.float64))
    factors[1, 2], factors[3, 0] = np.nan, -np.inf
    finite = all_finite(device, layout, to_device(device, layout, factors))
    assert finite.tolist() == [True, False, True, False, True]


CONVERT = """
extern "C" __global__ void convert(const float* in, stored* out, float* back) {
    out[threadIdx.x] = to_stored(in[threadIdx.x]);
    back[threadIdx.x] = from_stored(out[threadIdx.x]);
}
"""


@pytest.mark.parametrize("storage", [np.float16, ml_dtypes.bfloat16])
def test_storing_rounds_to_the_nearest_even_and_keeps_what_is_not_finite(storage):
    """CUDA's own NaN has every bit set: rounding it like a number would make it zero."""
    layout = Layout(1, np.dtype(storage).name)
    ties = np.float32(1) + np.arange(6, dtype=np.float32) * np.float32(ml_dtypes.finfo(storage).eps) / 2
    special = np.float32([0, 3.4e-5, -6.1e-5, 5.9e-8, 1e-30, 6.4e4, 3e38, -np.inf, np.inf, np.nan])
    random = np.random.default_rng(0).standard_normal(40).astype(np.float32)
    own_nan = np.uint32([0x7FFFFFFF, 0xFFFFFFFF]).view(np.float32)
    values = np.concatenate([ties, special, random, own_nan])
    stored, back = np.empty(len(values), layout.dtype), np.empty(len(values), np.float32)
    source = assemble_source("chip.cuh") + CONVERT
    run_source(source, "convert", layout.defines, (1, 1), len(values), 0, (values, stored, back))
    with np.errstate(over="ignore"):
        truth = values.astype(storage)
    np.testing.assert_array_equal(stored.view(storage).astype(np.float32), truth.astype(np.float32))
    np.testing.assert_array_equal(back, truth.astype(np.float32))
