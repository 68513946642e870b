"""What a factorisation refuses, by argument, value and rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from shopsight.kernels.backend import BackendUnavailable, available
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.model import MatrixFactorization
from tests.training.tastes import CONFIG, tastes


@pytest.fixture(scope="module")
def shop():
    return tastes()


@pytest.fixture(scope="module")
def fitted(shop):
    return MatrixFactorization(CONFIG).fit(shop[0], validation=shop[1])


def test_bad_input_is_refused_by_name(shop, fitted):
    with pytest.raises(TypeError, match=r"user_items.*CSR"):
        MatrixFactorization(CONFIG).fit(shop[0].tocoo())
    broken = shop[0].copy()
    broken.data[30] = np.nan
    with pytest.raises(ValueError, match=r"user_items: row 2 has a NaN"):
        MatrixFactorization(CONFIG).fit(broken)
    with pytest.raises(ValueError, match=r"validation: shape"):
        MatrixFactorization(CONFIG).fit(shop[0], validation=shop[1][:5])
    with pytest.raises(ValueError, match=r"users: every row must lie in 0..399"):
        fitted.recommend([400])
    with pytest.raises(ValueError, match=r"k=121"):
        fitted.recommend([0], k=121)
    with pytest.raises(ValueError, match=r"columns must be the 120 that were fitted"):
        fitted.fold_in(shop[0][:, :5])


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"num_factors": 0}, r"num_factors=0: must be at least 1"),
        ({"regularization": -0.1}, r"regularization=-0.1: must be finite and not negative"),
        ({"unobserved_weight": np.nan}, r"unobserved_weight=nan"),
        ({"memory_limit_gib": -1}, r"memory_limit_gib=-1"),
        ({"storage": "float64"}, r"storage='float64': must be one of float32, float16, bfloat16"),
        ({"solver": "lu"}, r"solver='lu'"),
        ({"objective": "bpr"}, r"objective='bpr'"),
    ],
)
def test_bad_settings_are_refused_by_name(setting, words):
    with pytest.raises(ValueError, match=words):
        MFConfig(**setting)


def test_numbers_of_rows_are_whole_and_exist(fitted):
    with pytest.raises(TypeError, match=r"users: must be row numbers.*float64"):
        fitted.recommend([1.5])
    with pytest.raises(ValueError, match=r"exclude_items: every row must lie in 0..119, not 120"):
        fitted.recommend([1], exclude_items=[3, 120])
    with pytest.raises(ValueError, match=r"items: every row must lie in 0..119, not -1"):
        fitted.similar_items([-1])
    with pytest.raises(ValueError, match=r"item: every row must lie in 0..119"):
        fitted.explain(0, 120)
    with pytest.raises(ValueError, match=r"k=0: must lie between 1 and the number of items, 120"):
        fitted.recommend([0], k=0)
    with pytest.raises(ValueError, match=r"k=121"):
        fitted.similar_items([0], k=121)


def test_matrices_that_are_none_are_refused_by_name(shop):
    def fit(matrix, **arguments):
        MatrixFactorization(CONFIG).fit(matrix, **arguments)

    with pytest.raises(TypeError, match=r"user_items: must be a scipy CSR matrix, not ndarray"):
        fit(np.ones((3, 4)))
    with pytest.raises(TypeError, match=r"user_items: values of dtype complex128 must be numbers"):
        fit(shop[0].astype(np.complex128))
    with pytest.raises(ValueError, match=r"user_items: shape \(0, 5\) has no users or no items"):
        fit(sparse.csr_matrix((0, 5)))
    infinite = shop[1].copy()
    infinite.data[0] = np.inf
    with pytest.raises(ValueError, match=r"validation: row 0 has a NaN or infinite value"):
        fit(shop[0], validation=infinite)
    with pytest.raises(ValueError, match=r"validation: holds no interaction"):
        fit(shop[0], validation=sparse.csr_matrix(shop[0].shape, dtype=np.float32))
    outside = shop[0].copy()
    outside.indices[5] = 120
    with pytest.raises(ValueError, match=r"user_items: column 120 lies outside 0..119"):
        fit(outside)
    falling = shop[0].copy()
    falling.indptr[3] = 1
    with pytest.raises(ValueError, match=r"user_items: indptr must rise"):
        fit(falling)


def test_unsorted_rows_and_duplicates_mean_what_they_say(shop, fitted):
    matrix = shop[0].tocoo()
    order = np.random.default_rng(0).permutation(matrix.nnz)
    halves = np.repeat(matrix.data[order] / 2, 2)
    rows, columns = (np.repeat(part[order], 2) for part in (matrix.row, matrix.col))
    by_row = np.argsort(rows, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=400))])
    unsorted = sparse.csr_matrix((halves[by_row], columns[by_row], indptr), matrix.shape)
    assert not unsorted.has_sorted_indices
    again = MatrixFactorization(CONFIG).fit(unsorted, validation=shop[1])
    np.testing.assert_array_equal(again.item_factors, fitted.item_factors)
    assert unsorted.nnz == 2 * matrix.nnz  # the caller's matrix stays as it was


def test_a_backend_that_is_not_there_is_told_with_the_remedy(shop):
    if len(available()) > 1:
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendUnavailable, match="remedy"):
        MatrixFactorization(replace(CONFIG, backend="cuda")).fit(shop[0])


def test_before_a_fit_there_is_nothing_to_ask():
    with pytest.raises(AttributeError, match="before fit or load"):
        MatrixFactorization().recommend([0])
