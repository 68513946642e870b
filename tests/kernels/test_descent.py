"""SGD and BPR: the CPU body against one-at-a-time float64, learning, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shopsight.kernels import als, bpr, sgd
from shopsight.kernels.cpu import descent
from shopsight.kernels.reference import bpr as bpr_reference
from shopsight.kernels.reference import sgd as sgd_reference
from shopsight.kernels.reference.passes import draw_partition, visits
from tests.kernels.parity import BACKENDS, FACTORS, SHAPES, STORAGES, Shape, make_csr, make_factors

DISTINCT = [shape for shape in SHAPES if not shape.duplicates]


def sgd_problem(shape, num_factors, storage, random):
    indptr, indices = make_csr(shape, random)
    ratings = random.integers(1, 6, len(indices)).astype(np.float32)
    users, items = len(shape.degrees), shape.num_columns
    x, y = (make_factors(n, num_factors, storage, random) for n in (users, items))
    biases = (random.standard_normal(n).astype(np.float32) * np.float32(0.1) for n in (users, items))
    return indptr, indices, ratings, sgd.SgdState(x, y, *biases, 3.0)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("num_factors", [1, 16, 50])
def test_passes_of_sgd_are_the_textbook_loop(shape, num_factors):
    random = np.random.default_rng(1)
    indptr, indices, ratings, state = sgd_problem(shape, num_factors, np.float32, random)
    rates = sgd.Rates(0.02, 0.05, 0.01, 0.03)
    found = sgd.train(indptr, indices, ratings, state, rates, num_epochs=2, seed=5, backend="cpu")
    truth = tuple(state[:4])
    for epoch in range(2):
        truth, _ = sgd_reference.run_pass(indptr, indices, ratings, truth, 3.0, tuple(rates), 5, epoch)
    for one, other in zip(found[:4], truth, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", DISTINCT, ids=lambda shape: shape.name)
@pytest.mark.parametrize("num_factors", [1, 16, 50])
def test_passes_of_bpr_are_the_textbook_loop(shape, num_factors):
    random = np.random.default_rng(2)
    indptr, indices = make_csr(shape, random)
    x, y = (make_factors(n, num_factors, np.float32, random) for n in (len(shape.degrees), shape.num_columns))
    found = bpr.train(indptr, indices, x, y, rate=0.05, num_epochs=2, seed=9, backend="cpu")
    truth = (x, y)
    for epoch in range(2):
        truth, _ = bpr_reference.run_pass(indptr, indices, truth, 0.05, 0.01, 9, epoch)
    for one, other in zip(found, truth, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


MIXED = Shape("mixed", (0, 1, 5, 40, 0, 20), 60)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("num_factors", FACTORS)
def test_a_pass_of_sgd_with_every_number_of_factors(num_factors, storage):
    random = np.random.default_rng(8)
    indptr, indices, ratings, state = sgd_problem(MIXED, num_factors, storage, random)
    rates = sgd.Rates(0.01, 0.05, 0.01, 0.03)
    found = sgd.train(indptr, indices, ratings, state, rates, num_epochs=1, seed=5, backend="cpu")
    truth, _ = sgd_reference.run_pass(indptr, indices, ratings, state[:4], 3.0, tuple(rates), 5, 0)
    rounding = 2 * float(np.finfo(storage).eps)
    for one, other in zip(found[:4], truth, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4 + rounding, atol=1e-5 + rounding)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("num_factors", FACTORS)
def test_a_pass_of_bpr_with_every_number_of_factors(num_factors, storage):
    random = np.random.default_rng(9)
    indptr, indices = make_csr(MIXED, random)
    x, y = (make_factors(n, num_factors, storage, random) for n in (6, 60))
    found = bpr.train(indptr, indices, x, y, rate=0.05, num_epochs=1, seed=9, backend="cpu")
    truth, _ = bpr_reference.run_pass(indptr, indices, (x, y), 0.05, 0.01, 9, 0)
    rounding = 2 * float(np.finfo(storage).eps)
    for one, other in zip(found, truth, strict=True):
        assert one.dtype == storage
        np.testing.assert_allclose(one, other, rtol=1e-4 + rounding, atol=1e-5 + rounding)


@pytest.mark.slow
def test_sgd_on_one_row_of_a_million_entries():
    random = np.random.default_rng(10)
    num_items, rate, held = 1_000_000, 0.01, 0.05
    indptr, indices = np.array([0, num_items]), np.arange(num_items, dtype=np.int32)
    ratings = random.integers(1, 6, num_items).astype(np.float32)
    state = sgd.SgdState(
        np.ones((1, 1), np.float32),
        random.uniform(0.5, 1.5, (num_items, 1)).astype(np.float32),
        np.zeros(1, np.float32),
        np.zeros(num_items, np.float32),
        3.0,
    )
    found = sgd.train(
        indptr, indices, ratings, state, sgd.Rates(rate, held, 0, 0), num_epochs=1, backend="cpu"
    )
    x, y, wanted = 1.0, state.item_factors.ravel().tolist(), ratings.tolist()
    for _, item, _ in visits(draw_partition(1, num_items, 0, 0), indptr.tolist(), range(num_items)):
        error = wanted[item] - 3 - x * y[item]
        x, y[item] = x + rate * (error * y[item] - held * x), y[item] + rate * (error * x - held * y[item])
    np.testing.assert_allclose(found.user_factors[0, 0], x, rtol=1e-3)
    np.testing.assert_allclose(found.item_factors.ravel(), y, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_bpr_on_one_row_of_a_million_entries():
    random = np.random.default_rng(11)
    num_items, rate, keep = 3_000_000, 0.05, 1 - 0.05 * 0.01
    indptr = np.array([0, 1_000_000])
    indices = np.sort(random.choice(num_items, 1_000_000, replace=False)).astype(np.int32)
    x, y = np.ones((1, 1), np.float32), random.uniform(-1, 1, (num_items, 1)).astype(np.float32)
    found = bpr.train(indptr, indices, x, y, rate=rate, num_epochs=1, seed=0, backend="cpu")
    partition, seen, liked_by = draw_partition(1, num_items, 0, 0), set(indices.tolist()), indices.tolist()
    start = bpr_reference.mix(0)
    u, v = 1.0, y.ravel().tolist()
    for _, position, group in visits(partition, indptr.tolist(), indices):
        liked = liked_by[position]
        other = bpr_reference.unseen_item(partition, group, seen, (start + position * 64) % 2**64)
        step = rate / (1 + math.exp(u * (v[liked] - v[other])))
        u, v[liked], v[other] = (
            keep * u + step * (v[liked] - v[other]),
            keep * v[liked] + step * u,
            keep * v[other] - step * u,
        )
    np.testing.assert_allclose(found[0][0, 0], u, rtol=1e-3)
    np.testing.assert_allclose(found[1].ravel(), v, rtol=1e-2, atol=1e-3)


def test_the_result_does_not_depend_on_the_number_of_threads(monkeypatch):
    random = np.random.default_rng(3)
    indptr, indices = make_csr(Shape("many", tuple(random.integers(0, 40, 500)), 300), random)
    x, y = (make_factors(n, 32, np.float32, random) for n in (500, 300))
    many = bpr.train(indptr, indices, x, y, num_epochs=3, backend="cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert descent.resolve("cpu").num_threads == 1
    one = bpr.train(indptr, indices, x, y, num_epochs=3, backend="cpu")
    np.testing.assert_array_equal(many[0], one[0])
    np.testing.assert_array_equal(many[1], one[1])


def test_a_negative_is_never_a_seen_item_and_every_unseen_one_has_its_turn():
    seen = np.array([0, 3, 4, 9])
    drawn = set()
    for epoch in range(60):
        partition = draw_partition(5, 12, 7, epoch)
        for group in range(8):
            item = bpr_reference.unseen_item(partition, group, seen, epoch * 64)
            drawn.add(item)
    assert drawn - {-1} == set(range(12)) - set(seen.tolist())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("num_items", [2, 6, 8, 12, 40])
def test_bpr_learns_in_a_small_catalogue(backend, num_items):
    random, num_users, half = np.random.default_rng(6), 300, num_items // 2
    liked = [
        np.sort(random.choice(np.arange(half) + half * (user % 2), max(1, half - 1), replace=False))
        for user in range(num_users)
    ]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in liked])]).astype(np.int64)
    indices = np.concatenate(liked).astype(np.int32)
    x, y = ((random.standard_normal((n, 8)) * 0.1).astype(np.float32) for n in (num_users, num_items))
    users, items = bpr.train(indptr, indices, x, y, num_epochs=60, regularization=0.002, backend=backend)
    scores = users @ items.T
    taste = (np.arange(num_items)[None, :] >= half) == (np.arange(num_users)[:, None] % 2 == 1)
    own, other = (np.where(part, scores, np.nan)[:, :, None] for part in (taste, ~taste))
    above = own > np.swapaxes(other, 1, 2)
    assert above.sum() > 0.85 * num_users * half * half


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("storage", STORAGES)
def test_sgd_learns_ratings_that_factors_explain(backend, storage):
    random = np.random.default_rng(4)
    taste, trait = random.standard_normal((200, 3)), random.standard_normal((100, 3))
    indptr, indices = make_csr(Shape("rated", (40,) * 200, 100), random)
    user_of = np.repeat(np.arange(200), 40)
    ratings = (3 + (taste[user_of] * trait[indices]).sum(1)).astype(np.float32)
    state = sgd.SgdState(
        *(random.standard_normal((n, 8)).astype(storage) * storage(0.1) for n in (200, 100)),
        np.zeros(200, np.float32),
        np.zeros(100, np.float32),
        3.0,
    )
    errors = []
    sgd.train(
        indptr,
        indices,
        ratings,
        state,
        sgd.Rates(0.05, 0.01),
        num_epochs=30,
        schedule=sgd.inverse(0.05),
        after_epoch=lambda _, rmse: errors.append(rmse),
        backend=backend,
    )
    assert errors[-1] < 0.2 * errors[0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("storage", STORAGES)
def test_bpr_learns_to_put_liked_items_first(backend, storage):
    random = np.random.default_rng(5)
    taste, trait = random.standard_normal((300, 3)), random.standard_normal((80, 3))
    liked = np.sort(np.argsort(-(taste @ trait.T), axis=1)[:, :15], axis=1)
    indptr, indices = np.arange(0, 301 * 15, 15), liked.astype(np.int32).ravel()
    x, y = (random.standard_normal((n, 8)).astype(storage) * storage(0.1) for n in (300, 80))
    x, y = bpr.train(indptr, indices, x, y, rate=0.1, num_epochs=40, backend=backend)
    scores = x.astype(np.float32) @ y.astype(np.float32).T
    positive = np.take_along_axis(scores, liked, axis=1)
    mask = np.ones_like(scores, dtype=bool)
    np.put_along_axis(mask, liked, False, axis=1)
    auc = np.mean([(p[:, None] > s[m]).mean() for p, s, m in zip(positive, scores, mask, strict=True)])
    assert auc > 0.93


def test_an_online_step_is_a_step_of_the_pass():
    random = np.random.default_rng(6)
    indptr, indices, ratings, state = sgd_problem(Shape("one", (1,), 1), 8, np.float32, random)
    rates = sgd.Rates(0.03, 0.05, 0.02, 0.04)
    passed = sgd.train(indptr, indices, ratings, state, rates, num_epochs=1, backend="cpu")
    sgd.update(state, 0, 0, float(ratings[0]), rates)
    for one, other in zip(state[:4], passed[:4], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_what_breaks_the_contract_is_refused_by_name():
    random = np.random.default_rng(7)
    indptr, indices, ratings, state = sgd_problem(Shape("small", (3, 2), 5), 4, np.float32, random)
    with pytest.raises(ValueError, match=r"ratings\[1\]=nan"):
        bad = ratings.copy()
        bad[1] = np.nan
        sgd.train(indptr, indices, bad, state, sgd.Rates(), num_epochs=1)
    with pytest.raises(ValueError, match="rate=-1"):
        sgd.train(indptr, indices, ratings, state, sgd.Rates(rate=-1), num_epochs=1)
    with pytest.raises(ValueError, match="user=2"):
        sgd.update(state, 2, 0, 1.0, sgd.Rates())
    with pytest.raises(ValueError, match="names an item twice"):
        twice = np.array([0, 0, 1, 2, 3], np.int32)
        bpr.train(indptr, twice, state.user_factors, state.item_factors)
    with pytest.raises(als.DivergenceError, match="epoch"):
        sgd.train(indptr, indices, ratings, state, sgd.Rates(rate=1e9), num_epochs=40, backend="cpu")
