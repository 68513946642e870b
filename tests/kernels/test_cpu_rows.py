"""How the CPU deals rows out: groups in lockstep, long_rows in parts, any number of threads."""

from __future__ import annotations

import numpy as np
import pytest

from shopsight.kernels import als
from shopsight.kernels.cpu import long_rows as long_row
from shopsight.kernels.fold_in import FoldIn
from shopsight.kernels.reference import als as reference
from tests.kernels.parity import FACTORS, SHAPES, STORAGES, Shape, make_factors, make_rows


@pytest.fixture
def short_parts(monkeypatch):
    """Rows of more than 16 entries are long_rows."""
    monkeypatch.setattr(long_row, "PART", 16)


def assert_solves(rows, factors, weight, **options):
    truth = reference.half_step(rows, factors, weight)
    found = als.half_step(rows, factors, weight, backend="cpu", **options)
    np.testing.assert_allclose(found, truth, rtol=2e-4, atol=2e-4 * np.abs(truth).max(initial=1e-6))


@pytest.mark.parametrize("num_rows", [1, 7, 8, 9, 17])
@pytest.mark.parametrize("weightless", [0.0, 0.5, 1.0])
def test_rows_of_unlike_lengths_share_a_group(num_rows, weightless):
    random = np.random.default_rng(num_rows)
    degrees = tuple(random.integers(0, 24, num_rows))
    rows, _ = make_rows(Shape("unlike", degrees, 60), "observed", random)
    weight = random.uniform(0.1, 4, len(rows.weight)).astype(np.float32)
    weight[random.random(len(weight)) < weightless] = 0
    for num_factors in (20, 64):
        factors = make_factors(60, num_factors, np.float32, random)
        assert_solves(rows._replace(weight=weight), factors, 0.3)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("objective", ("observed", "confidence", "explicit"))
@pytest.mark.usefixtures("short_parts")
def test_a_row_in_parts_has_the_solution_of_the_whole(shape, objective):
    random = np.random.default_rng(2)
    rows, weight = make_rows(shape, objective, random)
    factors = make_factors(shape.num_columns, 8, np.float32, random)
    assert_solves(rows, factors, weight)
    assert_solves(rows, factors, weight, solver="cg", num_cg_steps=24)
    kept = FoldIn(factors, weight, backend="cpu").solve(rows)
    np.testing.assert_array_equal(kept, als.half_step(rows, factors, weight, backend="cpu"))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("num_factors", FACTORS)
@pytest.mark.parametrize("part", [16, long_row.PART])
def test_conjugate_steps_are_those_of_the_textbook(num_factors, storage, part, monkeypatch):
    monkeypatch.setattr(long_row, "PART", part)
    random = np.random.default_rng(6)
    rows, weight = make_rows(Shape("mixed", (0, 1, 5, 40, 150, 300), 320), "confidence", random)
    factors, start = (make_factors(n, num_factors, storage, random) for n in (320, 6))
    truth = reference.improve(rows, factors, weight, 3, start)
    found = als.half_step(rows, factors, weight, solver="cg", num_cg_steps=3, initial=start, backend="cpu")
    assert found.dtype == storage
    allowed = 2e-3 + 4 * float(np.finfo(storage).eps)
    assert np.abs(found - truth).max() <= allowed * np.abs(truth).max()


@pytest.mark.usefixtures("short_parts")
def test_an_indefinite_row_in_parts_is_named():
    random = np.random.default_rng(3)
    rows, _ = make_rows(Shape("long", (3, 40), 50), "observed", random)
    rows.weight[10] = -100
    with pytest.raises(ValueError, match=r"row 1 .*not positive definite"):
        als.half_step(rows, make_factors(50, 4, np.float32, random), 0.0, backend="cpu")


@pytest.mark.parametrize("solver", als.SOLVERS)
@pytest.mark.usefixtures("short_parts")
def test_the_number_of_threads_changes_no_bit(solver, monkeypatch):
    random = np.random.default_rng(4)
    degrees = (900, *random.integers(0, 90, 300))
    rows, weight = make_rows(Shape("skewed", degrees, 1000), "confidence", random)
    factors = make_factors(1000, 32, np.float32, random)

    def solve(num_threads: int) -> np.ndarray:
        monkeypatch.setenv("OMP_NUM_THREADS", str(num_threads))
        return als.half_step(rows, factors, weight, solver=solver, backend="cpu")

    np.testing.assert_array_equal(solve(1), solve(2))
