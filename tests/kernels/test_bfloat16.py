"""Factors stored in bfloat16: float32 arithmetic on rounded factors, in every operation."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from shopsight.kernels import als
from shopsight.kernels.fold_in import FoldIn
from shopsight.kernels.reference import als as reference
from shopsight.kernels.topk import topk
from tests.kernels import test_descent
from tests.kernels.parity import Shape, make_csr, make_factors, make_rows

BFLOAT16 = ml_dtypes.bfloat16


@pytest.mark.parametrize("objective", ("observed", "confidence", "explicit"))
def test_a_half_step_is_float32_arithmetic_on_rounded_factors(objective):
    random = np.random.default_rng(5)
    rows, weight = make_rows(Shape("mixed", (0, 1, 9, 70, 200), 210), objective, random)
    factors = make_factors(210, 50, BFLOAT16, random)
    found = als.half_step(rows, factors, weight, backend="cpu")
    assert found.dtype == BFLOAT16
    exact = als.half_step(rows, factors.astype(np.float32), weight, backend="cpu")
    np.testing.assert_array_equal(found, exact.astype(BFLOAT16))
    np.testing.assert_array_equal(found, FoldIn(factors, weight, backend="cpu").solve(rows))
    truth = reference.half_step(rows, factors, weight)
    rounding = float(ml_dtypes.finfo(BFLOAT16).eps)
    assert (np.abs(found.astype(np.float64) - truth) <= rounding * (np.abs(truth) + 1e-2)).all()


def test_epochs_stay_near_float32():
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
    exact = als.Alternation(users, items, x, y, weight, backend="cpu").run(3)
    half = (part.astype(BFLOAT16) for part in (x, y))
    found = als.Alternation(users, items, *half, weight, backend="cpu").run(3)
    scores = found[0].astype(np.float32) @ found[1].astype(np.float32).T
    assert found[0].dtype == BFLOAT16
    np.testing.assert_allclose(scores, exact[0] @ exact[1].T, atol=0.05)


def test_the_best_items_are_those_of_the_rounded_factors():
    random = np.random.default_rng(7)
    users, items = (make_factors(n, 24, BFLOAT16, random) for n in (40, 700))
    indptr, indices = make_csr(Shape("seen", tuple(random.integers(0, 90, 40)), 700), random)
    seen = {"exclude_indptr": indptr, "exclude_indices": indices, "backend": "cpu"}
    found = topk(users, items, 12, **seen)
    exact = topk(users.astype(np.float32), items.astype(np.float32), 12, **seen)
    np.testing.assert_array_equal(found[0], exact[0])
    np.testing.assert_array_equal(found[1], exact[1])


def test_descents_learn():
    test_descent.test_sgd_learns_ratings_that_factors_explain("cpu", BFLOAT16)
    test_descent.test_bpr_learns_to_put_liked_items_first("cpu", BFLOAT16)


def test_values_that_are_not_finite_are_named():
    factors = np.ones((4, 3), BFLOAT16)
    factors[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"item_factors\[2, 1\]=nan: must be finite"):
        topk(np.ones((1, 3), BFLOAT16), factors, 1)
    with pytest.raises(ValueError, match="must agree in number of factors and in dtype"):
        topk(np.ones((1, 3), np.float32), np.ones((4, 3), BFLOAT16), 1)
