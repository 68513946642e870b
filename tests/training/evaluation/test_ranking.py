"""Ranking figures against slow, obvious references, and intervals that hold what they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from shopsight.training.evaluation.bootstrap import interval, ratio_interval
from shopsight.training.evaluation.list_quality import coverage
from shopsight.training.evaluation.ranking import hit_rate_at_k, ndcg_at_k, recall_at_k


def _slow_recall(items: list[int], wanted: set[int]) -> float:
    return len(wanted & set(items)) / min(len(items), len(wanted)) if wanted else float("nan")


def _slow_ndcg(items: list[int], wanted: set[int]) -> float:
    gain = sum(
        1 / np.log2(rank + 2)
        for rank, item in enumerate(items)
        if item in wanted and item not in items[:rank]
    )
    ideal = sum(1 / np.log2(rank + 2) for rank in range(min(len(items), len(wanted))))
    return gain / ideal if wanted else float("nan")


@settings(max_examples=60, deadline=None)
@given(
    num_users=st.integers(0, 7),
    num_items=st.integers(1, 12),
    k=st.integers(1, 9),
    seed=st.integers(0, 10_000),
)
def test_recall_and_ndcg_equal_the_slow_reference(num_users: int, num_items: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    k = min(k, num_items)
    relevant = csr_matrix((rng.random((num_users, num_items)) < 0.3).astype(np.float32))
    lists = np.array([rng.choice(num_items, k, replace=bool(seed % 2)) for _ in range(num_users)], np.int32)
    lists = lists.reshape(num_users, k)
    lists[rng.random(lists.shape) < 0.1] = -1
    wanted = [set(relevant[user].indices.tolist()) for user in range(num_users)]
    recall, ndcg = recall_at_k(lists, relevant), ndcg_at_k(lists, relevant)
    for user in range(num_users):
        assert recall[user] == pytest.approx(_slow_recall(lists[user].tolist(), wanted[user]), nan_ok=True)
        assert ndcg[user] == pytest.approx(_slow_ndcg(lists[user].tolist(), wanted[user]), nan_ok=True)


def test_an_empty_slot_never_hits() -> None:
    everything = csr_matrix(np.ones((2, 3), dtype=np.float32))
    assert not hit_rate_at_k(np.full((2, 2), -1), everything).any()


def test_coverage_counts_each_item_once_and_no_empty_slot() -> None:
    assert coverage(np.array([[0, 1], [1, -1]]), num_items=4) == 0.5


def test_a_bootstrap_interval_is_as_wide_as_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 4000)
    found = interval(values, seed=1)
    reach = 1.96 * values.std() / np.sqrt(len(values))
    assert found["value"] == pytest.approx(values.mean())
    assert found["high"] - found["low"] == pytest.approx(2 * reach, rel=0.15)


def test_a_ratio_of_paired_values_is_surer_than_its_parts() -> None:
    rng = np.random.default_rng(0)
    base = rng.exponential(1.0, 500)
    found = ratio_interval(2 * base, base, seed=0)
    assert (found["low"], found["value"], found["high"]) == pytest.approx((2.0, 2.0, 2.0))


def test_what_a_list_or_the_wanted_items_name_twice_counts_once() -> None:
    twice, wanted = np.array([[3, 3, 3], [2, 0, 2]]), csr_matrix(np.eye(5)[[3, 2]])
    assert recall_at_k(twice, wanted).tolist() == [1.0, 1.0]
    assert ndcg_at_k(twice, wanted).tolist() == [1.0, 1.0]
    named_twice = csr_matrix(
        (np.ones(4), np.array([3, 3, 1, 1]), np.array([0, 2, 4])), shape=(2, 5), dtype=np.float32
    )
    assert recall_at_k(np.array([[3, 4], [4, 1]]), named_twice).tolist() == [1.0, 1.0]
    assert ndcg_at_k(np.array([[3, 4], [4, 1]]), named_twice)[0] == 1.0
    assert named_twice.nnz == 4  # the caller's matrix stays as it was


def test_a_figure_over_nothing_is_undefined_and_says_why() -> None:
    nobody = {"value": None, "low": None, "high": None, "reason": "there is nobody to judge"}
    assert interval(np.zeros(0), seed=0) == nobody
    assert interval(np.full(3, np.nan), seed=0) == nobody
    assert ratio_interval(np.zeros(0), np.zeros(0), seed=0) == nobody
    compared = ratio_interval(np.ones(4), np.zeros(4), seed=0)
    assert compared["value"] is None and compared["reason"] == "what it is compared with is 0"
    assert coverage(np.empty((0, 3), np.int32), 5) is None and coverage(np.array([[-1]]), 0) is None


def test_entries_without_a_figure_do_not_count() -> None:
    some = interval(np.array([1.0, np.nan, 0.0]), seed=0)
    assert some["value"] == 0.5


def test_a_ratio_whose_base_may_be_zero_has_no_upper_end() -> None:
    found = ratio_interval(np.ones(3), np.array([1.0, 0.0, 0.0]), seed=0)
    assert found["value"] == pytest.approx(3.0) and found["high"] is None and found["low"] >= 1
