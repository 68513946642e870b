"""Every body of ALS against float64, on odd shapes; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopsight.kernels import als
from shopsight.kernels.fold_in import fold_in
from shopsight.kernels.reference import als as reference
from shopsight.kernels.rows import Rows
from tests.kernels.parity import BACKENDS, FACTORS, SHAPES, STORAGES, Shape, make_factors, make_rows

OBJECTIVES = ("observed", "confidence", "below unobserved", "explicit")


def assert_close(found, rows, factors, weight, truth):
    """Within what the roundings of float32, and of the storage type, may move each row."""
    allowed = reference.rounding_error(rows, factors, weight, truth)
    if factors.dtype == np.float16:
        allowed = allowed + 2 * np.finfo(np.float16).eps * np.abs(truth).max(axis=1, initial=1e-6)
    error = np.abs(found.astype(np.float64) - truth).max(axis=1, initial=0)
    assert (error <= allowed).all(), np.max(error / np.maximum(allowed, 1e-300))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_the_exact_half_step_is_the_float64_solution(backend, objective, shape):
    random = np.random.default_rng(1)
    rows, weight = make_rows(shape, objective, random)
    for num_factors in (8, 50, 64):
        factors = make_factors(shape.num_columns, num_factors, np.float32, random)
        found = als.half_step(rows, factors, weight, backend=backend)
        assert found.dtype == np.float32
        assert_close(found, rows, factors, weight, reference.half_step(rows, factors, weight))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("num_factors", FACTORS)
def test_every_number_of_factors_in_either_storage(backend, storage, num_factors):
    random = np.random.default_rng(2)
    rows, weight = make_rows(Shape("mixed", (0, 1, 5, 40, 150, 300), 320), "observed", random)
    factors = make_factors(320, num_factors, storage, random)
    found = als.half_step(rows, factors, weight, backend=backend)
    assert found.dtype == storage
    assert_close(found, rows, factors, weight, reference.half_step(rows, factors, weight))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("objective", ("observed", "confidence", "explicit"))
def test_conjugate_gradients_lead_to_the_exact_solution(backend, shape, objective):
    random = np.random.default_rng(3)
    rows, weight = make_rows(shape, objective, random)
    factors = make_factors(shape.num_columns, 8, np.float32, random)
    start = make_factors(rows.num_rows, 8, np.float32, random)
    found = als.half_step(rows, factors, weight, solver="cg", num_cg_steps=24, initial=start, backend=backend)
    truth = reference.half_step(rows, factors, weight)
    np.testing.assert_allclose(found, truth, atol=2e-3 * np.abs(truth).max(initial=1e-6), rtol=2e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("unit", [1e-30, 1e-12, 1e-8, 1.0, 1e8, 1e30])
@pytest.mark.parametrize("degrees", [(5, 0, 40, 2000), (40_000, 3)], ids=["short", "long_row"])
def test_conjugate_gradients_do_not_depend_on_the_unit_of_the_targets(backend, unit, degrees):
    random = np.random.default_rng(5)
    rows, weight = make_rows(Shape("unit", degrees, 60, duplicates=True), "observed", random)
    factors = make_factors(60, 8, np.float32, random)
    rows = rows._replace(target=rows.target * np.float32(unit))
    truth = reference.half_step(rows, factors, weight)
    start = (truth * random.uniform(0.5, 2, truth.shape)).astype(np.float32)
    for initial in (None, start):
        found = als.half_step(
            rows, factors, weight, solver="cg", num_cg_steps=30, initial=initial, backend=backend
        )
        assert np.linalg.norm(found / unit - truth / unit) < 1e-4 * np.linalg.norm(truth / unit)


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_conjugate_step_lowers_the_objective(backend):
    random = np.random.default_rng(4)
    rows, weight = make_rows(Shape("mixed", (3, 20, 64, 200, 1) * 4, 250), "observed", random)
    factors = make_factors(250, 32, np.float32, random)
    losses = [
        reference.loss(
            rows,
            als.half_step(rows, factors, weight, solver="cg", num_cg_steps=steps, backend=backend),
            factors,
            weight,
        )
        for steps in (1, 2, 3, 5, 8)
    ]
    best = reference.loss(rows, reference.half_step(rows, factors, weight), factors, weight)
    assert losses == sorted(losses, reverse=True)
    assert losses[2] <= best + 0.05 * abs(best)


def transpose(rows: Rows, num_columns: int, regularization: float) -> Rows:
    row_of = np.repeat(np.arange(rows.num_rows), np.diff(rows.indptr))
    order = np.lexsort((row_of, rows.indices))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows.indices, minlength=num_columns))])
    held = np.full(num_columns, regularization, np.float32)
    weight, target = rows.weight[order], rows.target[order]
    return Rows(indptr.astype(np.int64), row_of[order].astype(np.int32), weight, target, held)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("solver", als.SOLVERS)
def test_epochs_are_their_half_steps_one_after_the_other(backend, storage, solver):
    random = np.random.default_rng(5)
    users, weight = make_rows(Shape("mixed", tuple(random.integers(0, 30, 60)), 45), "observed", random)
    items = transpose(users, 45, 0.2)
    x, y = (make_factors(n, 16, storage, random) * storage(0.1) for n in (60, 45))
    found = als.Alternation(users, items, x, y, weight, solver=solver, backend=backend).run(3)
    for _ in range(3):
        x = als.half_step(users, y, weight, solver=solver, initial=x, backend=backend)
        y = als.half_step(items, x, weight, solver=solver, initial=y, backend=backend)
    tolerance = 1e-4 if storage == np.float32 else 2e-2
    np.testing.assert_allclose(found[0] @ found[1].T, x @ y.T, atol=tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
def test_epochs_stop_when_told_and_hand_out_what_they_have(backend):
    random = np.random.default_rng(6)
    users, weight = make_rows(Shape("mixed", (5,) * 20, 30), "observed", random)
    items = transpose(users, 30, 0.2)
    x, y = make_factors(20, 8, np.float32, random), make_factors(30, 8, np.float32, random)
    seen = []

    def after_epoch(epoch, fetch):
        seen.append((epoch, fetch()))
        return epoch == 5

    training = als.Alternation(users, items, x, y, weight, backend=backend)
    found = training.run(9, first_epoch=4, after_epoch=after_epoch)
    assert [epoch for epoch, _ in seen] == [4, 5]
    np.testing.assert_array_equal(found[0], seen[-1][1][0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("solver", als.SOLVERS)
@pytest.mark.parametrize("storage", STORAGES)
def test_a_second_run_goes_on_as_a_new_training_would(storage, solver, backend):
    random = np.random.default_rng(7)
    users, weight = make_rows(Shape("mixed", tuple(random.integers(0, 30, 60)), 45), "observed", random)
    items = transpose(users, 45, 0.2)
    x, y = (make_factors(n, 16, storage, random) * storage(0.1) for n in (60, 45))
    training = als.Alternation(users, items, x, y, weight, solver=solver, backend=backend)
    first = training.run(2)
    found = training.run(1, first_epoch=2)
    anew = als.Alternation(users, items, *first, weight, solver=solver, backend=backend).run(1)
    for one, other in zip(found, anew, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_runs_give_the_same_bits(backend):
    random = np.random.default_rng(7)
    rows, weight = make_rows(Shape("mixed", tuple(random.integers(0, 200, 300)), 250), "confidence", random)
    factors = make_factors(250, 64, np.float32, random)
    once, twice = (als.half_step(rows, factors, weight, backend=backend) for _ in range(2))
    np.testing.assert_array_equal(once, twice)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.slow
def test_one_row_of_a_million_entries(backend):
    random = np.random.default_rng(8)
    rows, weight = make_rows(Shape("long_row", (1_000_000, 3, 0), 1_000_000), "observed", random)
    factors = make_factors(1_000_000, 16, np.float32, random)
    found = als.half_step(rows, factors, weight, backend=backend)
    truth = reference.half_step(rows, factors, weight)
    np.testing.assert_allclose(found, truth, rtol=1e-3, atol=1e-3 * np.abs(truth).max())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_folded_in_with_the_kept_gramian_gets_the_factors_of_training(backend):
    random = np.random.default_rng(9)
    rows, weight = make_rows(Shape("mixed", (4, 30, 90), 100), "confidence", random)
    factors = make_factors(100, 50, np.float32, random)
    gramian = factors.astype(np.float64).T @ factors.astype(np.float64)
    trained = als.half_step(rows, factors, weight, backend=backend)
    np.testing.assert_allclose(
        fold_in(rows, factors, weight, gramian=gramian, backend=backend), trained, rtol=1e-4, atol=1e-5
    )


@settings(deadline=None, max_examples=30)
@given(
    degrees=st.lists(st.integers(0, 40), max_size=12),
    num_factors=st.integers(1, 40),
    weight=st.sampled_from([0.0, 0.01, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_small_problem_is_solved(degrees, num_factors, weight, seed):
    random = np.random.default_rng(seed)
    rows, _ = make_rows(Shape("any", tuple(degrees) or (0,), 40), "observed", random)
    factors = make_factors(40, num_factors, np.float32, random)
    found = als.half_step(rows, factors, weight, backend="cpu")
    assert_close(found, rows, factors, weight, reference.half_step(rows, factors, weight))


def good() -> tuple[Rows, np.ndarray]:
    random = np.random.default_rng(0)
    rows, _ = make_rows(Shape("small", (2, 3), 5), "observed", random)
    return rows, make_factors(5, 4, np.float32, random)


def test_a_system_that_negative_weights_make_indefinite_is_named():
    rows, factors = good()
    rows.weight[3] = -100
    with pytest.raises(ValueError, match=r"row 1 .*not positive definite"):
        als.half_step(rows, factors, 0.0, backend="cpu")


def test_rows_that_float32_cannot_factorise_are_solved_in_float64():
    rows, factors = good()
    factors = np.repeat(factors[:, :1], 4, axis=1)  # rank one: a Gramian with three zero eigenvalues
    rows = rows._replace(regularization=np.full(2, 1e-9, np.float32))
    found = als.half_step(rows, factors, 0.0, backend="cpu")
    truth = reference.half_step(rows, factors, 0.0)
    np.testing.assert_allclose(found @ factors.T, truth @ factors.T.astype(np.float64), rtol=1e-2)


@pytest.mark.parametrize(
    ("field", "value", "error", "words"),
    [
        ("indptr", np.array([0, 2, 5], np.int32), TypeError, "rows.indptr.*int64"),
        ("indptr", np.array([0, 4, 3, 5]), ValueError, "rows.indptr.*rise"),
        ("indptr", np.array([0, 2, 4]), ValueError, "rows.indptr.*5"),
        ("indices", np.array([0, 1, 0, 1, 5], np.int32), ValueError, "rows.indices: 5 .*0..4"),
        ("indices", np.array([0, 1, -1, 1, 2], np.int32), ValueError, "rows.indices: -1"),
        ("indices", np.array([0, 1, 3, 2, 4], np.int32), ValueError, "row 1 is not ascending"),
        ("indices", np.array([0, 1, 2, 3, 4]), TypeError, "rows.indices.*int32"),
        ("weight", np.array([1, 1, np.nan, 1, 1], np.float32), ValueError, r"rows.weight\[2\]=nan"),
        ("weight", np.ones(5), TypeError, "rows.weight.*float32.*float64"),
        ("target", np.array([1, np.inf, 1, 1, 1], np.float32), ValueError, r"rows.target\[1\]=inf"),
        ("target", np.ones(4, np.float32), ValueError, r"rows.target: shape \(4,\)"),
        ("regularization", np.array([1, -1], np.float32), ValueError, r"regularization\[1\]=-1"),
    ],
)
def test_rows_that_break_the_contract_are_refused_by_name(field, value, error, words):
    rows, factors = good()
    with pytest.raises(error, match=words):
        als.half_step(rows._replace(**{field: value}), factors, 0.1, backend="cpu")


def test_arguments_that_break_the_contract_are_refused_by_name():
    rows, factors = good()
    with pytest.raises(TypeError, match=r"factors.*float64"):
        als.half_step(rows, factors.astype(np.float64), 0.1)
    with pytest.raises(ValueError, match=r"factors.*C-contiguous"):
        als.half_step(rows, np.asfortranarray(factors), 0.1)
    with pytest.raises(ValueError, match="unobserved_weight=-1"):
        als.half_step(rows, factors, -1)
    with pytest.raises(ValueError, match="solver='lu'"):
        als.half_step(rows, factors, 0.1, solver="lu")
    with pytest.raises(ValueError, match="num_cg_steps=0"):
        als.half_step(rows, factors, 0.1, solver="cg", num_cg_steps=0)
    with pytest.raises(ValueError, match="initial: shape"):
        als.half_step(rows, factors, 0.1, solver="cg", initial=factors)


def test_divergence_is_reported_with_its_epoch():
    rows, factors = good()
    items = transpose(rows, 5, 1e-30)
    huge = rows._replace(target=np.full(5, 3e38, np.float32))
    x = make_factors(2, 4, np.float32, np.random.default_rng(0))
    with pytest.raises(als.DivergenceError, match=r"epoch 7: user factors are not finite"):
        als.Alternation(huge, items, x, factors, 0.1, backend="cpu").run(2, first_epoch=7)
