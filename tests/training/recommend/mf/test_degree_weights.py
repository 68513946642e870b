"""Weights by degree: their definition written slowly, and the optimum that a fit with them finds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from benchmarks.recommend_methods import degree_weights
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.model import MatrixFactorization


def _slow(x: np.ndarray, exponent: float) -> np.ndarray:
    weighted = np.zeros_like(x, dtype=np.float64)
    for user, item in np.argwhere(x != 0):
        degrees = np.count_nonzero(x[user]) * np.count_nonzero(x[:, item])
        weighted[user, item] = x[user, item] * degrees**-exponent
    return weighted * np.abs(x).sum() / np.abs(weighted).sum()


@pytest.mark.parametrize("exponent", [0.0, 0.4, 1.0, -0.5])
def test_each_value_is_divided_by_its_degrees_and_their_mean_stays(exponent):
    random = np.random.default_rng(0)
    x = np.where(random.random((9, 7)) < 0.5, random.integers(1, 4, (9, 7)), 0).astype(np.float64)
    x[4] = 0  # a user with nothing
    x[1, 2] = -2  # seen and not wanted
    given = sparse.csr_matrix(x)
    found = degree_weights(given, exponent)
    np.testing.assert_allclose(found.toarray(), _slow(x, exponent), rtol=1e-5)
    np.testing.assert_array_equal(given.toarray(), x)


def test_a_matrix_without_entries_stays_empty_and_a_bad_exponent_is_named():
    assert degree_weights(sparse.csr_matrix((3, 4), dtype=np.float32), 0.5).nnz == 0
    with pytest.raises(ValueError, match="exponent=nan"):
        degree_weights(sparse.csr_matrix((3, 4), dtype=np.float32), float("nan"))


def test_a_fit_ends_where_the_weighted_objective_is_stationary():
    random = np.random.default_rng(1)
    x = (random.random((30, 20)) < random.random(20)).astype(np.float64)
    config = MFConfig(
        num_factors=3, unobserved_weight=0.2, regularization=0.3, regularization_exponent=0.0, num_epochs=400
    )
    model = MatrixFactorization(config).fit(degree_weights(sparse.csr_matrix(x), 0.4))
    weight = _slow(x, 0.4)
    users, items = model.user_factors.astype(np.float64), model.item_factors.astype(np.float64)
    # of 0.2 Σ s² + Σ w (s² - 2 s) + 0.3 (|users|² + |items|²)
    outer = (0.2 + weight) * (users @ items.T) - weight
    assert np.abs(users).max() > 0.3
    np.testing.assert_allclose(outer @ items + 0.3 * users, 0, atol=1e-4)
    np.testing.assert_allclose(outer.T @ users + 0.3 * items, 0, atol=2e-3)
