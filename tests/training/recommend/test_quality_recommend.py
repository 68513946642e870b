"""The protocols of the public sets: what is held out, what is asked, and figures counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import sparse

from benchmarks.quality_recommend import EASE_HALF_LIFE, EASE_REGULARIZATION, _kept, _row, baselines_of
from benchmarks.recommend_methods import Factorised, Floor, Settings, figures
from benchmarks.recommend_sets import GOWALLA, ML1M, Cut, leave_last_out, random_cut, unordered
from shopsight.training.evaluation.baselines import EASE, Popularity
from shopsight.training.recommend.mf.config import MFConfig


def test_figures_are_those_counted_by_hand():
    held_out = sparse.csr_matrix(np.array([[0, 1, 1, 0, 0, 1], [1, 0, 0, 0, 0, 0]]))
    lists = np.array([[1, 0, 5], [4, 3, -1]])
    recall, ndcg = figures(lists, held_out)
    assert recall == pytest.approx((2 / 3 + 0) / 2)
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert ndcg == pytest.approx((1 + 1 / 2) / ideal / 2)


def test_recall_divides_by_all_that_is_held_out_even_beyond_k():
    held_out = sparse.csr_matrix(np.array([[1, 1, 1, 1]]))
    assert figures(np.array([[0, 1]]), held_out) == (pytest.approx(0.5), pytest.approx(1.0))


def test_the_last_is_held_out_and_the_rest_knows_its_place():
    users = np.array([1, 0, 0, 1, 0, 1])
    items = np.array([3, 0, 1, 2, 2, 0])  # user 0: 0 1 2, user 1: 3 2 0
    cut = leave_last_out(users, items)
    np.testing.assert_array_equal(cut.held_out.toarray(), [[0, 0, 1, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(cut.recency.toarray(), [[2, 1, 0, 0], [0, 0, 1, 2]])
    before = leave_last_out(users, items, skip=1)
    np.testing.assert_array_equal(before.held_out.toarray(), [[0, 1, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_array_equal(before.recency.toarray(), [[1, 0, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(unordered(cut).recency.toarray(), cut.recency.toarray() > 0)


def test_an_item_met_twice_counts_where_it_was_last():
    cut = leave_last_out(np.zeros(4, np.int64), np.array([1, 0, 1, 2]))
    np.testing.assert_array_equal(cut.recency.toarray(), [[2, 1, 0]])


def test_a_random_cut_takes_its_share_of_each_user_and_loses_nothing():
    matrix = (sparse.random(40, 60, 0.3, format="csr", random_state=0) > 0).astype(np.float32)
    cut = random_cut(matrix, 0.25, seed=3)
    np.testing.assert_array_equal((cut.recency + cut.held_out).toarray(), matrix.toarray())
    counts = np.diff(matrix.indptr)
    np.testing.assert_array_equal(np.diff(cut.held_out.indptr), np.round(0.25 * counts))
    again, other = random_cut(matrix, 0.25, seed=3), random_cut(matrix, 0.25, seed=4)
    assert (again.held_out != cut.held_out).nnz == 0
    assert (other.held_out != cut.held_out).nnz > 0


def _cut() -> Cut:
    random = np.random.default_rng(0)
    recency = np.where(random.random((30, 12)) < 0.4, random.integers(1, 9, (30, 12)), 0)
    return Cut(sparse.csr_matrix(recency.astype(np.float32)), sparse.csr_matrix(np.eye(30, 12)))


def test_popular_items_rise_with_the_exponent_and_seen_ones_stay_away():
    cut = _cut()
    model = Factorised(Settings(MFConfig(num_factors=4, num_epochs=3, backend="cpu")), cut)
    users = np.arange(30)
    counts = np.bincount(cut.recency.indices, minlength=12)
    plain, tilted = (model.lists(users, 3, False, exponent) for exponent in (0.0, 5.0))
    assert counts[tilted].mean() > counts[plain].mean()
    seen = cut.recency.toarray() > 0
    assert not seen[users[:, None], model.lists(users, 3, True, 0.0)].any()
    assert seen[users[:, None], plain].any()


def test_floors_answer_once_for_each_masking_and_by_recency_when_asked():
    cut, users = _cut(), np.array([2, 7])
    masked, open_ = Floor("popularity", Popularity).lists(cut, users, 2, (True, False))
    counts = np.bincount(cut.recency.indices, minlength=12).astype(float)
    np.testing.assert_array_equal(counts[open_], np.sort(counts)[::-1][[0, 1]][None].repeat(2, 0))
    seen = cut.recency.toarray()[users] > 0
    assert not np.take_along_axis(seen, masked, axis=1).any()
    flat = EASE(2.0).fit((cut.recency > 0).astype(np.float32))
    asked = cut.recency.copy()
    asked.data = np.exp2(-(asked.data - 1))
    expected = np.argsort(-flat.scores_of(asked[users]), axis=1)[:, :3]
    found = Floor("EASE", lambda: EASE(2.0), {}, half_life_asked=1.0).lists(cut, users, 3, (False,))[0]
    np.testing.assert_array_equal(found, expected)


def test_a_floor_is_kept_only_for_the_same_data_and_settings(monkeypatch):
    monkeypatch.setattr(type(GOWALLA), "sha256", lambda _: {"file": "digest"})
    floor = baselines_of(GOWALLA)[1]
    settings, about = Settings(MFConfig()), {"source": "measured here", "settings": floor.settings}
    ours = np.array([0.2, 0.3])
    rows = [
        _row(GOWALLA, settings, True, metric, ours, floor.name, value, about)
        for metric, value in zip(GOWALLA.metrics, (0.17, 0.14), strict=True)
    ]
    assert rows[0]["ours"] == pytest.approx(0.25)
    assert _kept(rows, GOWALLA, floor) == [(0.17, 0.14)]
    assert _kept(rows[:1], GOWALLA, floor) is None
    assert _kept(rows, ML1M, floor) is None
    other = Floor("EASE", floor.make, {"regularization": 1.0})
    assert _kept(rows, GOWALLA, other) is None


def test_order_counts_only_where_the_set_has_one():
    assert [floor.name for floor in baselines_of(GOWALLA)] == ["popularity", "EASE"]
    asked = baselines_of(ML1M)[-1]
    assert asked.half_life_asked == EASE_HALF_LIFE
    assert asked.settings == {
        "regularization": EASE_REGULARIZATION["ml1m"],
        "half_life_asked": EASE_HALF_LIFE,
    }
