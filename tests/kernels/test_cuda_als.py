"""The CUDA sources of ALS, run on the CPU, against float64 (tests/kernels/cuda_host/host_cuda.h)."""

from __future__ import annotations

import shutil

import ml_dtypes
import numpy as np
import pytest

from shopsight.kernels.cuda import als, basis, plan, runtime
from shopsight.kernels.cuda.layout import Layout
from shopsight.kernels.errors import DivergenceError
from shopsight.kernels.reference import als as reference
from shopsight.kernels.rows import Rows
from tests.kernels.cuda_host.device import HostDevice

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the host harness needs g++")

NUM_COLUMNS = 300
FACTORS = (1, 8, 50, 64, 100, 128, 144, 256)  # 144: more tiles than warps, more threads than places
RESCUE = als.rescue


@pytest.fixture(autouse=True)
def on_host(monkeypatch):
    def use(order: int = 0, shared_bytes: int = 227 * 1024) -> None:
        monkeypatch.setattr(runtime, "device", lambda: HostDevice(order, shared_bytes))

    def no_rescue(*arguments) -> None:
        if (failed := arguments[-1]).any():
            raise ValueError(f"row {failed.argmax()} was left to float64")

    use()
    monkeypatch.setattr(als, "rescue", no_rescue)  # it would hide a kernel that goes wrong
    monkeypatch.setattr(basis, "diagonalise", diagonalise)
    return use


def diagonalise(_device, _layout, matrix, _tolerance, vectors):
    """NumPy in the place of eigen.cu (test_cuda_basis.py), which takes the harness seconds."""
    vectors[:] = vectors @ np.linalg.eigh(np.nan_to_num(matrix, posinf=0, neginf=0))[1]


def make_rows(degrees, seed=0, num_columns=NUM_COLUMNS, duplicates=False, weightless=False) -> Rows:
    rng = np.random.default_rng(seed)
    pick = [np.sort(rng.choice(num_columns, d, replace=duplicates or d > num_columns)) for d in degrees]
    indices = np.concatenate(pick).astype(np.int32)
    weight = rng.gamma(1.0, 2.0, len(indices)).astype(np.float32)
    if weightless:
        weight[::3] = 0
    indptr = np.concatenate([[0], np.cumsum(degrees)]).astype(np.int64)
    regularization = (0.05 * (1 + np.asarray(degrees)) ** 0.7).astype(np.float32)
    return Rows(indptr, indices, weight, weight + np.float32(0.1), regularization)


def make_factors(num_factors, dtype=np.float32, num_rows=NUM_COLUMNS, seed=1):
    factors = np.random.default_rng(seed).standard_normal((num_rows, num_factors)) * 0.3
    return factors.astype(dtype)


def relative_error(found, truth):
    return np.linalg.norm(found.astype(np.float64) - truth) / np.linalg.norm(truth)


def degrees_for(num_factors):
    """Empty, single, one in each kind of bin, just below and at the number of factors, full, long."""
    kinds = {0, 1, 5, num_factors - 1, num_factors, NUM_COLUMNS, 700} | {min(33, num_factors)}
    return [0, *sorted(d for d in kinds if d >= 0), 3, 0]


@pytest.mark.parametrize(
    ("num_factors", "dtype"),
    [
        *((f, np.float32) for f in FACTORS),
        *((f, t) for f in (8, 100) for t in (np.float16, ml_dtypes.bfloat16)),
    ],
)
@pytest.mark.parametrize("solver", ["exact", "cg"])
def test_every_kernel_solves_its_rows(num_factors, dtype, solver, monkeypatch):
    monkeypatch.setattr(plan, "SEGMENT", 400)
    rows, factors = make_rows(degrees_for(num_factors), duplicates=True), make_factors(num_factors, dtype)
    found = als.half_step(rows, factors, 0.1, solver, 3 * num_factors, None)
    tolerance = {"float16": 1e-3, "bfloat16": 8e-3}.get(found.dtype.name, 1e-5 if solver == "exact" else 1e-4)
    assert found.dtype == dtype
    assert relative_error(found, reference.half_step(rows, factors, 0.1)) < tolerance
    assert not found[np.diff(rows.indptr) == 0].any()


@pytest.mark.parametrize("unit", [1e-30, 1e-12, 1e30])
def test_conjugate_gradients_do_not_depend_on_the_unit_of_the_targets(unit, monkeypatch):
    """A short row, one that is assembled, one that is cut."""
    monkeypatch.setattr(plan, "SEGMENT", 400)
    rows, factors = make_rows([5, 0, 300, 900], duplicates=True), make_factors(8)
    rows = rows._replace(target=rows.target * np.float32(unit))
    found = als.half_step(rows, factors, 0.1, "cg", 24, None)
    assert relative_error(found / unit, reference.half_step(rows, factors, 0.1) / unit) < 1e-4


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("solver", ["exact", "cg"])
def test_the_order_of_threads_does_not_matter(order, solver, on_host, monkeypatch):
    monkeypatch.setattr(plan, "SEGMENT", 400)
    rows, factors = make_rows(degrees_for(64)), make_factors(64)
    ascending = als.half_step(rows, factors, 0.1, solver, 3, None)
    on_host(order)
    assert np.array_equal(ascending, als.half_step(rows, factors, 0.1, solver, 3, None))


@pytest.mark.parametrize("unobserved_weight", [0.0, 1.0])
def test_entries_of_weight_zero_still_pull(unobserved_weight):
    rows, factors = make_rows([7, 30, 90], weightless=True), make_factors(64)
    found = als.half_step(rows, factors, unobserved_weight, "exact", 0, None)
    assert relative_error(found, reference.half_step(rows, factors, unobserved_weight)) < 1e-5


def mostly_weightless(degrees, weighted, seed=0) -> Rows:
    """Rows of which only so many entries, anywhere in the row, have a weight."""
    rows = make_rows(degrees, seed, duplicates=True)
    random = np.random.default_rng(seed)
    for row, count in enumerate(weighted):
        entries = np.arange(rows.indptr[row], rows.indptr[row + 1])
        rows.weight[random.permutation(entries)[count:]] = 0
    return rows


@pytest.mark.parametrize("num_factors", [8, 100])
@pytest.mark.parametrize("unobserved_weight", [0.0, 0.5])
def test_only_weighted_entries_make_a_row_s_system(num_factors, unobserved_weight, monkeypatch):
    monkeypatch.setattr(plan, "SEGMENT", 400)
    degrees = [1, 40, 200, 390, 390, 390, 900, 900, 0]
    rows = mostly_weightless(degrees, [0, 3, 16, 0, 7, 390, 0, 450, 0])
    kinds = plan.assign_rows(Layout(num_factors, "float32"), rows, False, 227 * 1024)
    assert (kinds[[0, 1, 3, 4]] == 16).all() and (kinds[[6, 7]] == -2).all()
    factors = make_factors(num_factors)
    found = als.half_step(rows, factors, unobserved_weight, "exact", 0, None)
    assert relative_error(found, reference.half_step(rows, factors, unobserved_weight)) < 1e-5


def test_entries_of_weight_zero_come_last_and_nothing_else_moves():
    rows = mostly_weightless([0, 5, 9, 1, 30, 0, 4], [0, 2, 9, 0, 11, 0, 0])
    moved, weighted = plan.weighted_first(rows)
    assert weighted.dtype == np.int32 and weighted.tolist() == [0, 2, 9, 0, 11, 0, 0]
    for row in range(rows.num_rows):
        part = slice(rows.indptr[row], rows.indptr[row + 1])
        order = np.argsort(rows.weight[part] == 0, kind="stable")
        for name in ("indices", "weight", "target"):
            assert (getattr(moved, name)[part] == getattr(rows, name)[part][order]).all()
    whole = make_rows([3, 0, 2])
    assert plan.weighted_first(whole)[0] is whole


@pytest.mark.parametrize(("weight", "factor"), [(1e9, 1.0), (1.0, 3e4), (1e-9, 1e-4), (1e-3, 1e6)])
def test_sizes_far_from_one_stay_within_the_range_of_halves(weight, factor):
    rows, factors = make_rows([3, 17, 40, 63]), make_factors(64) * np.float32(factor)
    rows = rows._replace(weight=rows.weight * np.float32(weight), target=rows.target * np.float32(weight))
    held = np.full(4, 1e-3 * weight * factor**2, np.float32)
    for regularization, unobserved_weight in ((held, 0.0), (held / 100, weight / 100)):
        part = rows._replace(regularization=regularization)
        found = als.half_step(part, factors, unobserved_weight, "exact", 0, None)
        truth = reference.half_step(part, factors, unobserved_weight)
        assert relative_error(found, truth) < 5e-4  # of conditions up to 7e4


def test_negative_weights_and_no_regularization_take_the_primal():
    rows, factors = make_rows([20, 20, 120]), make_factors(64)
    rows.weight[:5] *= -0.01
    rows.regularization[1] = 0
    layout = Layout.of(factors)
    assert (plan.assign_rows(layout, rows, False, 227 * 1024)[:2] == plan.PRIMAL).all()
    found = als.half_step(rows, factors, 1.0, "exact", 0, None)
    assert relative_error(found, reference.half_step(rows, factors, 1.0)) < 1e-5


def test_an_indefinite_row_is_named(monkeypatch):
    monkeypatch.setattr(als, "rescue", RESCUE)
    rows = make_rows([20, 20])
    rows.weight[25:] = -50
    with pytest.raises(ValueError, match=r"row 1 .*not positive definite"):
        als.half_step(rows, make_factors(32), 0.1, "exact", 0, None)


@pytest.mark.parametrize("degree", [20, 300, 900])
def test_conjugate_gradients_stop_and_say_so_where_the_curvature_is_negative(degree, monkeypatch):
    """A short row, one that is assembled, one that is cut."""
    monkeypatch.setattr(plan, "SEGMENT", 400)
    rows = make_rows([degree, degree], duplicates=True)
    rows.weight[degree:] = -50
    with pytest.raises(ValueError, match="row 1 was left to float64"):
        als.half_step(rows, make_factors(32), 0.1, "cg", 5, None)


def test_one_row_and_one_column():
    rows, factors = make_rows([1], num_columns=1), make_factors(8, num_rows=1)
    found = als.half_step(rows, factors, 0.5, "exact", 0, None)
    assert relative_error(found, reference.half_step(rows, factors, 0.5)) < 1e-5


def test_no_row_at_all():
    rows = Rows(np.zeros(1, np.int64), np.empty(0, np.int32), *(np.empty(0, np.float32) for _ in range(3)))
    assert als.half_step(rows, make_factors(8), 0.5, "exact", 0, None).shape == (0, 8)


def test_a_smaller_chip_takes_the_rows_it_can():
    """An A100 has 163 KiB: fewer dual bins at 256 factors, the same answer."""
    rows, factors = make_rows([100, 140, 300]), make_factors(256)
    device = HostDevice(shared_bytes=163 * 1024)
    layout = Layout.of(factors)
    kinds = plan.assign_rows(layout, rows, False, device.shared_bytes)
    assert kinds[1] == plan.PRIMAL and plan.assign_rows(layout, rows, False, 227 * 1024)[1] != plan.PRIMAL


def test_long_rows_are_cut_to_fit_the_workspace(monkeypatch):
    monkeypatch.setattr(plan, "SEGMENT", 100)
    monkeypatch.setattr(plan, "WORKSPACE_BYTES", 4 * 6 * (6 * 256 + 32))
    rows, factors = make_rows([350, 250, 290, 700]), make_factors(8)
    side = plan.load_interactions(HostDevice(), Layout.of(factors), rows, use_cg=False)
    assert len(side.long_rows) > 1
    covered = np.concatenate([group.segments for group in side.long_rows])
    assert (covered[:, 1] - covered[:, 0]).sum() == len(rows.indices)
    found = als.half_step(rows, factors, 0.1, "exact", 0, None)
    assert relative_error(found, reference.half_step(rows, factors, 0.1)) < 1e-5


def transpose(rows: Rows, num_columns: int) -> Rows:
    row_of = np.repeat(np.arange(rows.num_rows, dtype=np.int32), np.diff(rows.indptr))
    order = np.argsort(rows.indices, kind="stable")
    counts = np.bincount(rows.indices, minlength=num_columns)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    regularization = np.full(num_columns, 0.3, np.float32)
    return Rows(indptr, row_of[order], rows.weight[order], rows.target[order], regularization)


@pytest.mark.parametrize("solver", ["exact", "cg"])
def test_epochs_on_the_device_are_alternating_half_steps(solver):
    users = make_rows([0, 5, 20, 40, 60], num_columns=70)
    items = transpose(users, 70)
    x, y = make_factors(32, num_rows=5), make_factors(32, num_rows=70, seed=2)
    training = als.AlsTraining(users, items, x, y, 0.1, solver, 40)
    for _ in range(2):
        training.run_epoch()
        x = reference.half_step(users, y, 0.1)
        y = reference.half_step(items, x, 0.1)
        found = training.result()
        assert relative_error(found[0], x) < 1e-4 and relative_error(found[1], y) < 1e-4


@pytest.mark.parametrize("num_factors", [1, 8, 50])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_rows_that_float32_cannot_solve_are_solved_in_float64_on_the_device(num_factors, dtype):
    """Marks are set by hand: in several stripes, on neighbours, the last row, and one without a solution."""
    rows = make_rows([3, 70, 9, 40] * 100 + [5])
    rows.weight[rows.indptr[8] : rows.indptr[9]] = -50
    rows.regularization[8] = 0.01
    factors, device = make_factors(num_factors, dtype), HostDevice(2)
    layout = Layout.of(factors)
    side = plan.load_interactions(device, layout, rows, use_cg=False)
    y = als.to_device(device, layout, factors)
    basis_ = als.eigenbasis(device, layout, y, 0.1)
    rotated = als.rotate_in_place(device, layout, y, basis_)
    out, failed = np.zeros((rows.num_rows, layout.stored), layout.dtype), np.zeros(rows.num_rows, np.int8)
    marked = [0, 5, 6, 8, 300, 400]
    failed[marked] = 1
    RESCUE(device, layout, side, rotated, basis_, out, failed)
    assert np.flatnonzero(failed).tolist() == [8]
    assert not out[np.setdiff1d(np.arange(rows.num_rows), marked)].any() and not out[8].any()
    found = als.to_host(device, layout, als.rotate_back(device, layout, out, basis_))
    solved = [row for row in marked if row != 8]
    truth = reference.half_step(rows._replace(weight=np.abs(rows.weight)), factors, 0.1)
    assert relative_error(found[solved], truth[solved]) < (1e-5 if dtype is np.float32 else 1e-2)


def test_an_epoch_goes_on_after_rows_that_float32_cannot_solve(monkeypatch):
    """As on the CPU: the next half step reads what float64 found."""

    def fail_first(*arguments) -> None:
        out, failed = arguments[-2:]
        failed[1], out[1] = 1, np.nan
        RESCUE(*arguments)

    monkeypatch.setattr(als, "rescue", fail_first)
    users = make_rows([9, 20, 40], num_columns=60)
    items, y = transpose(users, 60), make_factors(16, num_rows=60)
    training = als.AlsTraining(users, items, np.zeros((3, 16), np.float32), y, 0.1, "exact", 0)
    training.run_epoch()
    truth = reference.half_step(users, y, 0.1)
    found = training.result()
    assert relative_error(found[0], truth) < 1e-4
    assert relative_error(found[1], reference.half_step(items, truth, 0.1)) < 1e-4


def test_divergence_names_the_row_and_the_epoch(monkeypatch):
    monkeypatch.setattr(als, "rescue", RESCUE)
    users = make_rows([20, 20], num_columns=40)
    users.weight[20:] = -50
    x, y = make_factors(16, num_rows=2), make_factors(16, num_rows=40)
    training = als.AlsTraining(users, transpose(users, 40), x, y, 0.1, "exact", 0)
    training.run_epoch()
    with pytest.raises(DivergenceError, match=r"user_rows: by epoch 0 .* row 1"):
        training.result()


def test_too_many_factors_are_refused():
    with pytest.raises(ValueError, match=r"257 columns.*at most 256"):
        als.half_step(make_rows([1]), make_factors(257), 0.1, "exact", 0, None)
