"""Paired tests have the level they claim, and the correction holds it for many models."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from shopsight.training.evaluation import comparison
from shopsight.training.evaluation.comparison import compare, holm, sign_flip_p


def test_the_sign_flip_test_equals_all_sign_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_BLOCK_CELLS", 1000)  # several blocks
    difference = np.array([0.5, -0.1, 0.3, 0.0, 0.9, 0.2, -0.4, 0.7])
    sums = [abs(np.dot(signs, difference)) for signs in product((-1, 1), repeat=8)]
    exact = np.mean([one >= abs(difference.sum()) - 1e-9 for one in sums])
    assert sign_flip_p(difference, seed=0, num_permutations=40_000) == pytest.approx(exact, abs=0.006)


def test_the_level_holds_without_a_difference() -> None:
    rng = np.random.default_rng(0)
    found = [sign_flip_p(rng.standard_t(3, 40), seed=n, num_permutations=199) for n in range(600)]
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.025)


def test_holm_equals_the_step_by_step_definition() -> None:
    rng = np.random.default_rng(1)
    for num in (0, 1, 2, 7):
        p_values = rng.random(num).round(1)
        found = holm(p_values)
        for alpha in (0.05, 0.2, 0.5, 0.95):
            rejected = np.zeros(num, bool)
            for step, place in enumerate(np.argsort(p_values, kind="stable")):
                if p_values[place] > alpha / (num - step):
                    break
                rejected[place] = True
            np.testing.assert_array_equal(found <= alpha, rejected)
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])


def test_every_pair_is_compared_by_the_users_whom_both_have() -> None:
    rng = np.random.default_rng(2)
    base = rng.random(400)
    better = base + rng.normal(0.05, 0.1, 400)
    better[:50] = np.nan
    figures = {"als": better, "same": base + rng.normal(0, 0.1, 400), "popular": base}
    found = {(one.model, one.other): one for one in compare(figures)}
    assert set(found) == {("als", "same"), ("als", "popular"), ("same", "popular")}
    als, same = found["als", "popular"], found["same", "popular"]
    assert als.num_users == 350 and same.num_users == 400
    assert als.difference["low"] > 0 and als.adjusted_p_value is not None and als.adjusted_p_value < 0.01
    assert als.p_value is not None and als.p_value < als.adjusted_p_value
    assert same.difference["low"] < 0 < same.difference["high"] and (same.adjusted_p_value or 0) > 0.05
    against = compare(figures, against="popular")
    assert [(one.model, one.other) for one in against] == [("als", "popular"), ("same", "popular")]


def test_what_cannot_be_compared() -> None:
    some = np.ones(3)
    with pytest.raises(ValueError, match=r"figures of 1 model\(s\): a comparison needs two"):
        compare({"als": some})
    with pytest.raises(ValueError, match="unequal length"):
        compare({"als": some, "popular": np.ones(4)})
    with pytest.raises(ValueError, match="against='ease': there are als, popular"):
        compare({"als": some, "popular": some}, against="ease")
    nobody, other = compare({"a": np.full(3, np.nan), "b": some, "c": some}, against="c")
    assert nobody.num_users == 0 and nobody.p_value is None and nobody.adjusted_p_value is None
    assert nobody.difference["reason"] == "no user has a figure of both models"
    assert other.p_value == other.adjusted_p_value == 1.0
