"""Figures of a classifier against slow or published ones."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from shopsight.training.language.metrics import (
    accuracy,
    area_under_roc,
    calibration_error,
    confused_pairs,
    energy,
    macro_f1,
    temperature,
)


def test_the_wilson_interval_is_the_published_one() -> None:
    label = np.arange(10)
    figure = accuracy(label, np.where(label < 8, label, -1))
    assert figure["value"] == 0.8
    assert (figure["low"], figure["high"]) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # 8 of 10
    assert accuracy(label, label)["high"] == pytest.approx(1.0)


@pytest.mark.parametrize("num", [1, 7, 500])
def test_macro_f1_agrees_with_scikit_learn(num: int) -> None:
    rng = np.random.default_rng(num)
    label, said = rng.integers(0, 5, num), rng.integers(0, 7, num)
    expected = f1_score(label, said, average="macro", labels=np.unique(label), zero_division=0)
    assert macro_f1(label, said) == pytest.approx(expected)


def test_the_area_under_the_curve_counts_ties_half() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(0, 9, 300) + 1.0, rng.integers(0, 9, 70) * 1.0
    truth = np.r_[np.ones(300), np.zeros(70)]
    assert area_under_roc(inside, outside) == pytest.approx(roc_auc_score(truth, np.r_[inside, outside]))
    assert area_under_roc(np.ones(3), np.ones(4)) == 0.5
    assert np.isnan(area_under_roc(np.ones(3), np.ones(0)))


def test_the_calibration_error_agrees_with_a_loop_over_bins() -> None:
    rng = np.random.default_rng(0)
    confidence = np.r_[rng.random(999), 1.0]
    right = rng.random(1000) < confidence**2
    expected = 0.0
    for i in range(15):
        upper = confidence <= 1 if i == 14 else confidence < (i + 1) / 15
        inside = (confidence >= i / 15) & upper
        expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(right, confidence) == pytest.approx(expected)


@pytest.mark.parametrize("planted", [0.3, 1.0, 4.0])
def test_the_temperature_that_was_planted_is_found(planted: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 6))
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    label = (share.cumsum(1) < rng.random((20_000, 1))).sum(1)
    assert temperature((logits * planted).astype(np.float32), label) == pytest.approx(planted, rel=0.03)


def test_the_temperature_of_logits_that_are_always_right_stays_finite() -> None:
    assert 0.05 <= temperature(np.eye(3, dtype=np.float32) * 100, np.arange(3)) <= 20
    assert temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)) == 1.0


def test_energy_does_not_overflow() -> None:
    logits = np.array([[1000.0, 0.0], [0.0, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(energy(logits, 2.0), [1000.0, 2 * np.log(2)])


def test_the_most_frequent_confusions_come_first() -> None:
    label, said = np.array([0, 0, 1, 2, 2, 2]), np.array([1, 1, 1, 0, 2, 1])
    assert confused_pairs(label, said, ("a", "b", "c"), top=2) == [
        {"label": "a", "said": "b", "count": 2},
        {"label": "c", "said": "a", "count": 1},
    ]
    assert confused_pairs(label, label, ("a", "b", "c")) == []
