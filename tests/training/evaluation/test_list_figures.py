"""The figures of ranked lists against slow references, against trec_eval, and on bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from shopsight.training.evaluation import list_quality, ranking
from tests.training.evaluation import reference_lists as slow


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_BLOCK_CELLS", 24)  # so that a handful of users is several blocks


def _case(seed: int, num_users: int, num_items: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lists with repeats and empty places, relevant items and the past, both dense and skewed."""
    rng = np.random.default_rng(seed)
    skew = 1 / np.arange(1, num_items + 1)
    lists = rng.choice(num_items, (num_users, k), p=skew / skew.sum()).astype(np.int32)
    if seed % 2 and k <= num_items:
        lists = np.argsort(rng.random((num_users, num_items)), axis=1)[:, :k].astype(np.int32)
    lists[rng.random(lists.shape) < 0.2] = -1
    relevant = rng.random((num_users, num_items)) < 0.3
    past = np.where(rng.random((num_users, num_items)) < 0.4, rng.integers(1, 5, (num_users, num_items)), 0)
    return lists, relevant, past.astype(np.float64)


_CASES = {
    "seed": st.integers(0, 10_000),
    "num_users": st.integers(0, 9),
    "num_items": st.integers(1, 12),
    "k": st.integers(1, 9),
}


@settings(max_examples=80, deadline=None)
@given(**_CASES, capped=st.booleans())
def test_accuracy_equals_the_slow_reference(
    seed: int, num_users: int, num_items: int, k: int, capped: bool
) -> None:
    lists, relevant, _ = _case(seed, num_users, num_items, k)
    found = ranking.ranking_figures(lists, csr_matrix(relevant, dtype=np.float32), capped=capped)
    for user in range(num_users):
        expected = slow.accuracy(lists[user].tolist(), set(np.flatnonzero(relevant[user])), capped)
        assert {name: values[user] for name, values in found.items()} == pytest.approx(expected, nan_ok=True)


@settings(max_examples=80, deadline=None)
@given(**_CASES)
def test_qualities_of_lists_equal_the_slow_reference(
    seed: int, num_users: int, num_items: int, k: int
) -> None:
    lists, _, past = _case(seed, num_users, num_items, k)
    rng = np.random.default_rng(seed)
    count = (past > 0).sum(axis=0)
    category = rng.integers(-1, 4, num_items)
    vectors = rng.normal(size=(num_items, 3)) * (rng.random(num_items) < 0.8)[:, None]
    matrix = csr_matrix(past)
    shares = count / max(num_users, 1)
    information = -np.log2(np.maximum(count, 1) / max(num_users, 1))
    found = {
        "novelty": list_quality.novelty(lists, count, num_users),
        "popularity": list_quality.popularity(lists, count, num_users),
        "bias": list_quality.popularity_bias(lists, matrix, count),
        "diversity": list_quality.diversity(lists, vectors),
        "of categories": list_quality.diversity(lists, list_quality.one_hot(category)),
        "calibration": list_quality.calibration(lists, matrix, category, smoothing=0.05),
    }
    indicators = (category[:, None] == np.arange(4)).astype(np.float64)
    for user in range(num_users):
        items = lists[user].tolist()
        own = count[past[user] > 0]
        expected = {
            "novelty": slow.mean_of(items, information),
            "popularity": slow.mean_of(items, shares),
            "bias": slow.mean_of(items, count) / own.mean() if len(own) else np.nan,
            "diversity": slow.diversity(items, vectors),
            "of categories": slow.diversity(items, indicators),
            "calibration": slow.calibration(items, past[user], category, 0.05),
        }
        got = {name: values[user] for name, values in found.items()}
        assert got == pytest.approx(expected, nan_ok=True, abs=1e-9)
    times = [sum(item in slow.once(row) for row in lists.tolist()) for item in range(num_items)]
    assert list_quality.gini(lists, num_items) == (
        pytest.approx(slow.gini(times), abs=1e-12) if sum(times) else None
    )


@pytest.mark.parametrize("k", [1, 3, 10])
def test_accuracy_equals_trec_eval(k: int) -> None:
    trec = pytest.importorskip("pytrec_eval", reason="pytrec_eval is in the extra `dev`")
    rng = np.random.default_rng(k)
    num_users, num_items = 40, 30
    relevant = rng.random((num_users, num_items)) < 0.25
    relevant[0] = False  # trec_eval leaves out who has nothing relevant; here the figure is NaN
    lists = np.argsort(rng.random((num_users, num_items)), axis=1)[:, :k]
    judged = {
        str(user): {str(item): int(relevant[user, item]) for item in range(num_items)}
        for user in range(1, num_users)
    }
    run = {
        str(user): {str(item): float(k - place) for place, item in enumerate(lists[user])}
        for user in range(num_users)
    }
    names = {"recall": "recall", "hit_rate": "success", "ndcg": "ndcg_cut", "map": "map_cut"}
    asked = {f"{name}.{k}" for name in names.values()} | {"recip_rank"}
    theirs = trec.RelevanceEvaluator(judged, asked).evaluate(run)
    ours = ranking.ranking_figures(lists, csr_matrix(relevant), capped=False)
    assert all(np.isnan(values[0]) for values in ours.values())
    for user in range(1, num_users):
        of_user = theirs[str(user)]
        for name, their_name in names.items():
            assert ours[name][user] == pytest.approx(of_user[f"{their_name}_{k}"], abs=1e-6), (name, user)
        assert ours["mrr"][user] == pytest.approx(of_user["recip_rank"], abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), num_users=st.integers(0, 7), num_items=st.integers(1, 9))
def test_best_items_break_ties_by_the_lower_index(seed: int, num_users: int, num_items: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (num_users, num_items)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.1] = -np.inf
    hidden = rng.random(scores.shape) < 0.2
    k = int(rng.integers(1, num_items + 1))
    found = ranking.best_items(scores, k, hidden=csr_matrix(hidden))
    for user in range(num_users):
        left = [item for item in range(num_items) if not hidden[user, item] and scores[user, item] > -np.inf]
        expected = sorted(left, key=lambda item: (-scores[user, item], item))[:k]
        assert found[user].tolist() == expected + [-1] * (k - len(expected))


_FIGURES: dict[str, Any] = {
    "ranking_figures": lambda lists: ranking.ranking_figures(lists, csr_matrix((2, 3))),
    "recall_at_k": lambda lists: ranking.recall_at_k(lists, csr_matrix((2, 3))),
    "hit_rate_at_k": lambda lists: ranking.hit_rate_at_k(lists, csr_matrix((2, 3))),
    "mrr_at_k": lambda lists: ranking.mrr_at_k(lists, csr_matrix((2, 3))),
    "map_at_k": lambda lists: ranking.map_at_k(lists, csr_matrix((2, 3))),
    "ndcg_at_k": lambda lists: ranking.ndcg_at_k(lists, csr_matrix((2, 3))),
    "popularity_bias": lambda lists: list_quality.popularity_bias(lists, csr_matrix((2, 3)), np.ones(3)),
    "calibration": lambda lists: list_quality.calibration(lists, csr_matrix((2, 3)), np.zeros(3, int)),
    "novelty": lambda lists: list_quality.novelty(lists, np.ones(3), 2),
    "diversity": lambda lists: list_quality.diversity(lists, np.eye(3)),
}
_NEED_USERS = set(_FIGURES) - {"novelty", "diversity"}


@pytest.mark.parametrize("figure", _FIGURES)
@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (np.array([[0, 3], [1, 2]]), r"recommended\[0, 1\] = 3: no item, there are 3"),
        (np.array([[0, 1], [-2, 2]]), r"recommended\[1, 0\] = -2: no item"),
        (np.zeros((2, 0), int), "no places; recommend at least one item"),
        (np.zeros((2, 2)), "is no integer array"),
        (np.zeros(2, int), "is no integer array"),
        (np.zeros((3, 2), int), "recommended has 3 users, where 2 are judged"),
    ],
)
def test_lists_that_cannot_be_judged_are_refused(figure: str, lists: np.ndarray, message: str) -> None:
    if len(lists) == 3 and figure not in _NEED_USERS:
        return
    with pytest.raises(ValueError, match=message):
        _FIGURES[figure](lists)


def test_lists_of_empty_places_have_a_documented_result() -> None:
    nothing, some = np.full((2, 4), -1), csr_matrix(np.array([[1, 0, 1], [0, 0, 0]]))
    for name, values in ranking.ranking_figures(nothing, some).items():
        assert values[0] == 0 and np.isnan(values[1]), name
    assert np.isnan(list_quality.novelty(nothing, np.ones(3), 2)).all()
    assert np.isnan(list_quality.popularity_bias(nothing, some, np.ones(3))).all()
    assert np.isnan(list_quality.diversity(nothing, np.eye(3))).all()
    assert np.isnan(list_quality.calibration(nothing, some, np.array([0, 0, 1]))).all()
    assert np.isnan(list_quality.calibration(nothing + 1, some, np.full(3, -1))).all()


def test_scores_and_counts_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scores\[1, 2\] is NaN"):
        ranking.best_items(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, np.nan]]), 2)
    with pytest.raises(ValueError, match="k=4: must be 1 to the number of items, 3"):
        ranking.best_items(np.ones((1, 3)), 4)
    with pytest.raises(ValueError, match="7 users of one item, where num_users is 2"):
        list_quality.novelty(np.zeros((1, 1), int), np.array([7]), 2)
    for figure in (list_quality.coverage, list_quality.gini):
        with pytest.raises(ValueError, match="3 different items, where num_items is 2"):
            figure(np.array([[0, 1, 2]]), 2)
    with pytest.raises(ValueError, match="smoothing=0"):
        list_quality.calibration(np.zeros((1, 1), int), csr_matrix((1, 1)), np.zeros(1, int), smoothing=0)
