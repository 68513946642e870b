"""Top-k against a full sort, with what must not be offered masked."""

from __future__ import annotations

import numpy as np
import pytest

from shopsight.kernels.reference.topk import topk as reference
from shopsight.kernels.topk import topk
from tests.kernels.parity import BACKENDS, FACTORS, STORAGES, Shape, make_csr, make_factors


def assert_same(found, truth, users, items, tolerance=1e-5):
    """Scores agree; where an index differs, the item named scores the same."""
    np.testing.assert_allclose(found[1], truth[1], rtol=tolerance, atol=tolerance)
    empty = truth[0] < 0
    np.testing.assert_array_equal(found[0] < 0, empty)
    scores = np.take_along_axis(users.astype(np.float64) @ items.astype(np.float64).T, found[0], axis=1)
    np.testing.assert_allclose(scores[~empty], truth[1][~empty], rtol=tolerance, atol=tolerance)
    for row in found[0]:
        assert len(set(row[row >= 0])) == (row >= 0).sum()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("num_factors", FACTORS)
def test_the_best_items_are_those_of_a_full_sort(backend, storage, num_factors):
    random = np.random.default_rng(1)
    users, items = (make_factors(n, num_factors, storage, random) for n in (70, 2500))
    indptr, indices = make_csr(Shape("seen", tuple(random.integers(0, 300, 70)), 2500), random)
    banned = random.choice(2500, 40, replace=False).astype(np.int32)
    arguments = {"exclude_indptr": indptr, "exclude_indices": indices, "exclude_items": banned}
    found = topk(users, items, 20, **arguments, backend=backend)
    assert_same(found, reference(users, items, 20, indptr, indices, banned), users, items)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("num_users", "num_items", "k"), [(1, 1, 1), (3, 5, 5), (65, 2049, 2049), (130, 40, 7), (1030, 257, 3)]
)
def test_odd_numbers_of_users_and_items(backend, num_users, num_items, k):
    random = np.random.default_rng(2)
    users, items = (make_factors(n, 12, np.float32, random) for n in (num_users, num_items))
    assert_same(topk(users, items, k, backend=backend), reference(users, items, k), users, items)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_user_who_has_seen_everything_gets_empty_slots(backend):
    random = np.random.default_rng(3)
    users, items = (make_factors(n, 8, np.float32, random) for n in (2, 6))
    indptr, indices = np.array([0, 6, 8]), np.array([0, 1, 2, 3, 4, 5, 1, 2], np.int32)
    ids, scores = topk(users, items, 5, exclude_indptr=indptr, exclude_indices=indices, backend=backend)
    assert (ids[0] == -1).all() and np.isneginf(scores[0]).all()
    assert set(ids[1][:4]) == {0, 3, 4, 5} and ids[1][4] == -1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_user_who_has_seen_all_but_a_few_of_a_million_items(backend):
    random = np.random.default_rng(4)
    users, items = (make_factors(n, 8, np.float32, random) for n in (2, 1_000_000))
    left = np.sort(random.choice(1_000_000, 5, replace=False))
    seen = np.delete(np.arange(1_000_000, dtype=np.int32), left)
    indptr = np.array([0, len(seen), len(seen)])
    found = topk(users, items, 8, exclude_indptr=indptr, exclude_indices=seen, backend=backend)
    assert set(found[0][0]) == {*left.tolist(), -1}
    assert_same(found, reference(users, items, 8, indptr, seen), users, items)


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_scores_come_by_index(backend):
    users = np.ones((3, 4), np.float32)
    items = np.ones((3000, 4), np.float32)
    items[[7, 2900]] = 2
    ids, _ = topk(users, items, 6, backend=backend)
    np.testing.assert_array_equal(ids, np.tile([7, 2900, 0, 1, 2, 3], (3, 1)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_users_give_no_rows(backend):
    ids, scores = topk(np.empty((0, 4), np.float32), np.ones((9, 4), np.float32), 3, backend=backend)
    assert ids.shape == scores.shape == (0, 3)


def test_what_breaks_the_contract_is_refused_by_name():
    users, items = np.ones((2, 4), np.float32), np.ones((5, 4), np.float32)
    with pytest.raises(ValueError, match=r"k=6.*5"):
        topk(users, items, 6)
    with pytest.raises(ValueError, match="number of factors"):
        topk(users, items[:, :3].copy(), 2)
    with pytest.raises(ValueError, match=r"user_factors\[0, 1\]=nan"):
        topk(np.array([[1, np.nan, 1, 1]], np.float32), items, 2)
    with pytest.raises(ValueError, match="both or neither"):
        topk(users, items, 2, exclude_indptr=np.array([0, 0, 0]))
    with pytest.raises(ValueError, match=r"exclude.indptr: 1 rows must be 2"):
        topk(users, items, 2, exclude_indptr=np.array([0, 0]), exclude_indices=np.empty(0, np.int32))
    with pytest.raises(ValueError, match=r"exclude_items.*0..4"):
        topk(users, items, 2, exclude_items=np.array([5], np.int32))


def test_shares_of_the_items_are_put_together_as_one_list(monkeypatch):
    """Few users: every thread takes a share of the items; ties over a border of shares stay by index."""
    random = np.random.default_rng(6)
    users, items = (make_factors(n, 16, np.float32, random) for n in (5, 5000))
    items[4000] = items[100]
    found = {}
    for threads in ("1", "2", "7"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found[threads] = topk(users, items, 300, backend="cpu")
    assert_same(found["7"], reference(users, items, 300), users, items)
    for threads in ("2", "7"):
        np.testing.assert_array_equal(found[threads][0], found["1"][0])
        np.testing.assert_array_equal(found[threads][1], found["1"][1])
