"""The floors against their closed forms, written down slowly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from shopsight.training.evaluation import baselines as floors
from shopsight.training.evaluation.baselines import EASE, Popularity


def _slow_ease(x: np.ndarray, regularization: float) -> np.ndarray:
    """Steck (2019), equation 8, in float64."""
    inverse = np.linalg.inv(x.T @ x + regularization * np.eye(x.shape[1]))
    weights = inverse / -np.diag(inverse)
    weights[np.diag_indices(len(weights))] = 0
    return x @ weights


@pytest.mark.parametrize("block", [4, 1024])
@pytest.mark.parametrize("shape", [(37, 11), (11, 37), (20, 20), (1, 6), (6, 1)])
def test_ease_is_its_closed_form_whichever_side_is_inverted(monkeypatch, shape, block):
    monkeypatch.setattr(floors, "_BLOCK", block)
    x = (np.random.default_rng(0).random(shape) < 0.3).astype(np.float64)
    x[0, 0] = 1.0
    users = np.arange(shape[0])[::-1]
    found = EASE(2.5).fit(sparse.csr_matrix(x)).scores(users)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, _slow_ease(x, 2.5)[users], atol=1e-5)


def test_ease_weighs_values_and_does_not_touch_its_input():
    x = sparse.random(30, 12, 0.4, format="csr", random_state=1, dtype=np.float64) * 3
    before = x.copy()
    found = EASE(1.0).fit(x).scores(np.arange(30))
    np.testing.assert_allclose(found, _slow_ease(x.toarray(), 1.0), atol=1e-5)
    assert (x != before).nnz == 0


def test_ease_scores_rows_that_were_not_fitted_where_it_has_the_items_weights():
    random = np.random.default_rng(3)
    x, asked = random.random((25, 9)) < 0.4, random.random((4, 9))
    inverse = np.linalg.inv(x.T.astype(float) @ x + 2.0 * np.eye(9))
    weights = np.eye(9) - inverse / np.diag(inverse)
    found = EASE(2.0).fit(sparse.csr_matrix(x.astype(float))).scores_of(sparse.csr_matrix(asked))
    np.testing.assert_allclose(found, asked @ weights, atol=1e-5)
    with pytest.raises(ValueError, match="fewer users than items"):
        EASE(2.0).fit(sparse.csr_matrix(x.T.astype(float))).scores_of(sparse.csr_matrix(x.T.astype(float)))


def test_ease_says_what_it_cannot_do():
    with pytest.raises(ValueError, match="regularization=0"):
        EASE(0)
    with pytest.raises(ValueError, match=r"\(0, 3\)"):
        EASE(1.0).fit(sparse.csr_matrix((0, 3)))


def test_popularity_counts_users():
    x = sparse.csr_matrix(np.array([[1, 0, 5], [0, 0, 1]]))
    np.testing.assert_array_equal(Popularity().fit(x).scores(np.array([1, 1])), [[1, 0, 2], [1, 0, 2]])
