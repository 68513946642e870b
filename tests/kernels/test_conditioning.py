"""Rows that float32 cannot solve are found by a bound that holds, and solved in float64."""

from __future__ import annotations

import numpy as np
import pytest

from shopsight.kernels import als
from shopsight.kernels.conditioning import MAX_CONDITION, HardRows
from shopsight.kernels.fold_in import FoldIn
from shopsight.kernels.reference import als as reference
from shopsight.kernels.rows import Rows


def _rows(num_factors: int, spread: float, regularization: float, seed: int = 0) -> tuple[Rows, np.ndarray]:
    """Rows of 0 to 2f + 30 entries whose weights lie between exp(-spread) and exp(spread)."""
    rng = np.random.default_rng(seed)
    factors = (rng.standard_normal((500, num_factors)) / np.sqrt(num_factors)).astype(np.float32)
    lengths = np.concatenate([[0], rng.integers(1, min(2 * num_factors + 30, 400), 20), [0]])
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    indices = np.concatenate([np.sort(rng.choice(500, n, replace=False)) for n in lengths]).astype(np.int32)
    weight = np.exp(rng.uniform(-spread, spread, len(indices))).astype(np.float32)
    held = np.full(len(lengths), regularization, np.float32)
    return Rows(indptr, indices, weight, weight + np.float32(1), held), factors


@pytest.mark.parametrize("num_factors", [1, 17, 64])
@pytest.mark.parametrize(("regularization", "unobserved"), [(0.01, 0.0), (1e-6, 1.0), (1e-6, 0.0)])
def test_weights_of_any_size_are_solved_to_what_float64_gives(num_factors, regularization, unobserved):
    rows, factors = _rows(num_factors, np.log(1e6), regularization)
    truth = reference.half_step(rows, factors, unobserved)
    hard = HardRows(factors, unobserved).found_in(rows)
    conditions = reference.condition(rows, factors, unobserved)
    filled = np.diff(rows.indptr) > 0
    assert set(np.flatnonzero(filled & (conditions > MAX_CONDITION))) <= set(hard)
    for answer in (
        als.half_step(rows, factors, unobserved, backend="cpu"),
        FoldIn(factors, unobserved, backend="cpu").solve(rows),
    ):
        error = np.linalg.norm(answer - truth, axis=1) / np.maximum(np.linalg.norm(truth, axis=1), 1e-30)
        assert (error[hard] < 1e-6).all() and (error[filled] < 0.1).all()
        assert not answer[~filled].any()


def test_rows_of_usual_weights_are_left_to_float32():
    rows, factors = _rows(32, np.log(5), 0.5)
    assert len(HardRows(factors, 0.1).found_in(rows)) == 0
    empty = Rows(
        np.zeros(1, np.int64), *(np.zeros(0, t) for t in (np.int32, np.float32, np.float32, np.float32))
    )
    assert len(HardRows(factors, 0.1).found_in(empty)) == 0


def test_negative_weights_take_the_gramian_out_of_the_bound():
    rows, factors = _rows(8, np.log(2), 1e-5)
    lowered = rows._replace(weight=-np.float32(0.9) * np.ones_like(rows.weight))
    found = HardRows(factors, 1.0).found_in(lowered)
    filled = np.flatnonzero(np.diff(rows.indptr) > 0)
    assert set(np.flatnonzero(reference.condition(lowered, factors, 1.0) > MAX_CONDITION)) <= set(found)
    assert set(found) <= set(filled)


def test_a_system_that_is_singular_in_float64_keeps_its_answer():
    rows, factors = _rows(4, np.log(2), 0.0)
    one = rows._replace(
        indptr=np.array([0, 1]), indices=rows.indices[:1], weight=rows.weight[:1], target=rows.target[:1],
        regularization=rows.regularization[:1],
    )  # fmt: skip
    answer = np.ones((1, 4), np.float32)
    assert list(HardRows(factors, 0.0).found_in(one)) == [0]
    np.testing.assert_array_equal(HardRows(factors, 0.0).solved(one, answer), np.ones((1, 4)))
