"""Calibration and its measures on probabilities whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from shopsight.training.evaluation.classification import auc
from shopsight.training.value.calibration import Calibration, calibrate, reliability


def test_a_distortion_that_is_known_is_undone() -> None:
    rng = np.random.default_rng(0)
    truth = rng.beta(2, 3, 60_000)
    happened = rng.random(60_000) < truth
    said = expit((logit(truth) - 0.7) / 1.6)
    undone = calibrate(said, happened)
    assert undone.intercept == pytest.approx(0.7, abs=0.05) and undone.slope == pytest.approx(1.6, abs=0.05)
    assert np.abs(undone(said) - truth).max() < 0.02


def test_the_order_of_customers_is_kept_whatever_happened() -> None:
    said = np.linspace(0.01, 0.99, 50)
    for happened in (said < 0.5, said > 2, said < 2):  # against what was said, to nobody, to everybody
        found = calibrate(said, happened)(said)
        assert (np.diff(found) > 0).all() and (found > 0).all() and (found < 1).all()


def test_certainty_does_not_break_it() -> None:
    found = calibrate(np.array([0.0, 1.0, 1.0, 0.0]), np.array([True, False, True, False]))
    assert np.isfinite(found(np.array([0.0, 0.5, 1.0]))).all()
    assert calibrate(np.zeros(0), np.zeros(0, dtype=bool)) == Calibration(0.0, 1.0)


def test_reliability_puts_everybody_in_one_bin() -> None:
    rng = np.random.default_rng(1)
    said = rng.random(1_003)
    bins = reliability(said, rng.random(1_003) < said)
    assert sum(one["num_customers"] for one in bins) == 1_003 and len(bins) == 10
    assert [one["said"] for one in bins] == sorted(one["said"] for one in bins)
    assert sum(one["low"] <= one["said"] <= one["high"] for one in bins) >= 8
    assert len(reliability(said[:3], np.ones(3, dtype=bool))) == 3


def test_auc_is_that_of_everybody_else_with_ties() -> None:
    rng = np.random.default_rng(2)
    said, happened = rng.integers(0, 9, 500) / 10, rng.random(500) < 0.3
    assert auc(said, happened) == pytest.approx(roc_auc_score(happened, said))
    for nobody_differs in (np.zeros(500, dtype=bool), np.ones(500, dtype=bool)):
        assert auc(said, nobody_differs) is None
    assert auc(said[:0], happened[:0]) is None
