"""Splits hold what they promise, and leaks are measured where they are planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from shopsight.training.evaluation.leaks import leak_worth
from shopsight.training.evaluation.ranking import best_items, hit_rate_at_k, recall_at_k
from shopsight.training.evaluation.splits import BadSplit, apart, in_time, leave_one_out, matrix


@pytest.mark.parametrize("kind", ["float64", "int64", "datetime64[s]"])
def test_a_split_in_time_separates_no_equal_times(kind: str) -> None:
    time = np.array([5, 1, 9, 9, 2, 3, 9, 4, 7, 8]).astype("int64").astype(kind)
    split = in_time(time)
    assert time[split.test].tolist() == time[[2, 3, 6]].tolist() and (split.train != split.test).all()
    assert time[split.train].max() < time[split.test].min() and split.warnings == ()
    at = in_time(time, cut=time[8])
    assert at.test.sum() == 5


def test_a_split_whose_share_begins_with_the_first_time_moves_on() -> None:
    assert in_time(np.array([1, 1, 1, 1, 2]), test_share=0.6).test.tolist() == [False] * 4 + [True]


_TIMES = np.array([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("time", "settings", "message"),
    [
        (np.array([]), {}, "no interactions to split"),
        (np.array([1.0, np.nan, np.inf]), {}, "time is missing or not finite in 2 of 3 rows, first in row 1"),
        (np.array(["2026-01-01", "NaT"], "datetime64[D]"), {}, "in 1 of 2 rows, first in row 1"),
        (_TIMES, {"cut": 1.0}, r"cut at 1.0 leaves the training side .* times are 1.0 to 3.0; choose a cut"),
        (_TIMES, {"cut": 3.5}, "leaves the test side without"),
        (np.ones(4), {}, "leaves the training side without"),
        (_TIMES, {"test_share": 1.0}, "test_share=1.0: must be above 0 and below 1"),
    ],
)
def test_splits_that_leave_a_side_empty_are_refused(
    time: np.ndarray, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadSplit, match=message):
        in_time(time, **settings)


def test_leave_one_out_takes_the_last_and_says_what_it_leaks() -> None:
    user = np.array([0, 0, 1, 1, 1, 2, 3, 3])
    time = np.array([1.0, 2.0, 9.0, 8.0, 9.0, 7.0, 3.0, 3.0])
    split = leave_one_out(user, time)
    assert np.flatnonzero(split.test).tolist() == [1, 4, 7]
    assert "80% of the training interactions are later than the first test interaction" in split.warnings[0]
    assert leave_one_out(np.array([0, 0]), np.array([1.0, 2.0])).warnings == ()
    with pytest.raises(BadSplit, match="no user has two interactions"):
        leave_one_out(np.array([0, 1]), np.array([1.0, 2.0]))
    with pytest.raises(BadSplit, match="user has 1 rows where time has 2"):
        leave_one_out(np.array([0]), np.array([1.0, 2.0]))
    with pytest.raises(BadSplit, match="first in row 0"):
        leave_one_out(np.array([0, 0]), np.array([np.nan, 2.0]))


def test_a_side_becomes_a_matrix_of_ones() -> None:
    user, item = np.array([0, 0, 1]), np.array([2, 2, 0])
    found = matrix(user, item, np.array([True, True, False]), (2, 3))
    assert found.toarray().tolist() == [[0, 0, 1], [0, 0, 0]]
    with pytest.raises(BadSplit, match=r"item\[0\] = 2: must be 0 to 1"):
        matrix(user, item, np.ones(3, bool), (2, 2))


def test_warm_and_cold_are_apart() -> None:
    train = csr_matrix(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]]))
    relevant = csr_matrix(np.array([[0, 1, 1], [1, 0, 0], [0, 1, 1]]))
    lists = np.array([[1], [1], [2]])
    warm = (np.diff(train.tocsc().indptr) > 0, np.diff(train.indptr) > 0)
    found = apart(recall_at_k, lists, relevant, *warm)
    assert set(apart(recall_at_k, lists, relevant, warm[0])) == {"warm_items", "cold_items"}
    nan = np.nan
    expected = {
        "warm_customers": [1, 0, nan],
        "cold_customers": [nan, nan, 1],
        "warm_items": [1, 0, 0],
        "cold_items": [0, nan, 1],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def _shop(seed: int, *, fashion: float, repeats: float) -> dict[str, Any]:
    """Users with three old items; in the window they take others, in fashion or not, or old ones again."""
    rng = np.random.default_rng(seed)
    num_users, num_items = 300, 60
    past, window = np.zeros((num_users, num_items)), np.zeros((num_users, num_items))
    for user in range(num_users):
        past[user, rng.choice(40, 3, replace=False)] = 1
        item = int(rng.integers(20, 24)) if rng.random() < fashion else int(rng.integers(0, 60))
        window[user, item] = 1
        if rng.random() < repeats:
            window[user, rng.choice(np.flatnonzero(past[user]))] = 1
    return {
        "past": csr_matrix(past),
        "whole": csr_matrix(past + window),
        "relevant": csr_matrix(window),
        "available": np.arange(num_items) < 50,
    }


def _popular(train: csr_matrix) -> np.ndarray:
    return np.asarray(train.sum(axis=0)).ravel()


def _rank(
    popularity: np.ndarray, users: np.ndarray, hidden: csr_matrix | None, may: np.ndarray
) -> np.ndarray:
    scores = np.where(may, popularity, -np.inf)
    return best_items(np.tile(scores, (len(users), 1)), 5, hidden=hidden)


def _worth(shop: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return leak_worth(_popular(shop["past"]), _popular, _rank, hit_rate_at_k, **shop, seed=0)


def test_a_leak_of_time_is_worth_what_only_the_window_knows() -> None:
    found = _worth(_shop(0, fashion=0.8, repeats=0.0))["time"]
    assert found["worth"]["low"] > 0.3
    assert found["leaky"]["value"] - found["clean"]["value"] == pytest.approx(found["worth"]["value"])


def test_a_leak_of_future_items_is_worth_what_the_catalogue_tells() -> None:
    shop = _shop(0, fashion=0.95, repeats=0.0)
    assert _worth(shop)["future_items"]["worth"]["low"] > 0.2


def test_a_leak_of_repeats_is_worth_what_was_met_before() -> None:
    shop = _shop(0, fashion=0.0, repeats=1.0)
    assert _worth(shop)["repeats"]["worth"]["low"] > 0.02


def test_where_nothing_is_to_be_known_a_leak_is_worth_nothing() -> None:
    found = _worth(_shop(1, fashion=0.0, repeats=0.0))
    assert abs(found["time"]["worth"]["value"]) < 0.05


def test_nobody_to_judge_is_undefined() -> None:
    shop = _shop(0, fashion=0.5, repeats=0.0)
    shop["relevant"] = csr_matrix(shop["relevant"].shape)
    found = _worth(shop)
    assert all(one["worth"]["reason"] == "there is nobody to judge" for one in found.values())
    shop["available"] = np.ones(3, bool)
    with pytest.raises(ValueError, match="must be of the same users and items"):
        _worth(shop)
