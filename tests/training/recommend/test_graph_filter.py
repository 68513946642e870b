"""The graph filter against its definition in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shopsight.training.recommend.graph_filter import GraphFilter
from shopsight.training.recommend.neighbours import Histories

Rows = list[list[int]]


def _drawn(num_customers: int, num_items: int, seed: int = 0) -> Rows:
    random = np.random.default_rng(seed)
    share = 1 / np.arange(1, num_items + 1)
    lengths = np.minimum(random.geometric(0.25, num_customers) - 1, num_items)
    return [random.choice(num_items, n, replace=False, p=share / share.sum()).tolist() for n in lengths]


SHAPES = {
    "tall": (_drawn(40, 12), 12),
    "wide": (_drawn(9, 31, 1), 31),
    "one item each": ([[2], [0], [2], []], 5),
    "all empty": ([[], []], 3),
    "no customers": ([], 4),
    "one item": ([[0]], 1),
}


def _slow_scores(rows: Rows, num_items: int, sharpening: float, weight: float, most: int) -> np.ndarray:
    x = np.zeros((len(rows), num_items))
    for customer, row in enumerate(rows):
        x[customer, row] = 1
    users, items = x.sum(axis=1), x.sum(axis=0)
    by_user = np.where(users > 0, 1 / np.sqrt(np.maximum(users, 1)), 0)
    by_item = np.where(items > 0, 1 / np.sqrt(np.maximum(items, 1)), 0)
    scaled = by_user[:, None] * x * by_item
    pairs = scaled.T @ scaled
    waves = np.linalg.svd(scaled, full_matrices=False)[2][:most]
    low = (by_item[:, None] * waves.T) @ (waves * np.sqrt(items))
    sharp, power = np.zeros_like(pairs), np.eye(num_items)
    for k in range(5):
        sharp += (-sharpening) ** k / math.factorial(k) * power
        power = power @ pairs
    return x @ (pairs + weight * low) @ sharp


@pytest.mark.parametrize(("sharpening", "weight"), [(2.5, 0.2), (0.0, 0.0), (1.0, 0.7)])
@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_those_of_the_definition(shape, sharpening, weight):
    rows, num_items = SHAPES[shape]
    histories = Histories.of(rows, num_items)
    model = GraphFilter(sharpening=sharpening, low_pass_weight=weight, num_frequencies=100, backend="cpu")
    found = model.fit(histories).scores(histories)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, _slow_scores(rows, num_items, sharpening, weight, 100), atol=2e-5)


def test_few_frequencies_are_the_first():
    random = np.random.default_rng(2)
    rows = [(10 * (n % 3) + random.choice(10, 5, replace=False)).tolist() for n in range(200)]
    histories = Histories.of(rows, 30)
    found = GraphFilter(num_frequencies=3, low_pass_weight=1.0).fit(histories).scores(histories)
    np.testing.assert_allclose(found, _slow_scores(rows, 30, 2.5, 1.0, 3), atol=1e-4)


def test_an_item_of_ones_own_circle_comes_first_and_the_history_is_left_out():
    circles = [[0, 1, 2], [1, 2, 3], [0, 2, 3], [5, 6, 7], [4, 6, 7], [4, 5, 7], [7]] * 3
    model = GraphFilter(num_frequencies=2).fit(Histories.of(circles, 8))
    ids, _ = model.recommend(Histories.of([[0, 1], [4, 5], []], 8), 2)
    assert set(ids[0]) == {2, 3}
    assert set(ids[1]) == {6, 7}
    assert ids[2, 0] == 7, "without a history, the most popular comes first"


def test_a_fitted_filter_answers_the_same_again():
    histories = Histories.of(_drawn(60, 30, seed=4), 30)
    one, other = (GraphFilter(num_frequencies=4).fit(histories).scores(histories) for _ in range(2))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sharpening": -1}, "sharpening=-1"),
        ({"low_pass_weight": math.nan}, "low_pass_weight=nan"),
        ({"num_frequencies": 0}, "num_frequencies=0"),
        ({"half_life": 0}, "half_life=0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        GraphFilter(**settings)
