"""When a message is handed over: the threshold that costs least, and what it does."""

from __future__ import annotations

import numpy as np
import pytest

from shopsight.serving.routing.scope import BY_LOGITS
from shopsight.training.language.abstention import (
    Abstention,
    Costs,
    choose,
    figures,
    least_cost_threshold,
    risk_coverage,
)


@pytest.mark.parametrize("seed", range(6))
def test_no_threshold_costs_less_than_the_chosen_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 60)), int(rng.integers(0, 30))
    inside, outside = rng.integers(0, 12, n) / 4 + 1, rng.integers(0, 12, m) / 4
    right = rng.random(n) < 0.8
    costs = Costs(wrong_answer=float(rng.uniform(1, 8)), out_of_scope_share=float(rng.uniform(0.05, 0.6)))

    def cost(threshold: float) -> float:
        share = costs.out_of_scope_share if m else 0.0
        each = np.where(inside < threshold, 1.0, np.where(right, 0.0, costs.wrong_answer))
        out = np.where(outside < threshold, 1.0, costs.wrong_answer)
        return float((1 - share) * each.mean() + (share * out.mean() if m else 0.0))

    chosen = least_cost_threshold(inside, right, outside, costs)
    assert cost(chosen) == pytest.approx(min(cost(t) for t in np.arange(-1, 8, 0.125)))


def test_a_wrong_answer_that_costs_no_more_than_a_person_is_never_handed_over() -> None:
    score = np.array([0.2, 0.4, 0.9])
    assert least_cost_threshold(score, np.array([False, True, True]), np.zeros(0), Costs(1.0, 0.1)) <= 0.2


def test_the_score_that_separates_better_is_taken() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, 400)
    inside = rng.normal(0, 1, (400, 4)).astype(np.float32)
    inside[np.arange(400), label] += 6
    outside = (rng.normal(0, 1, (100, 4)) * 0.3).astype(np.float32)
    outside[:, 0] += 6  # as sure as the others
    outside -= 20  # but of low energy
    right = inside.argmax(1) == label
    scores = {name: (score(inside, 1.0), score(outside, 1.0)) for name, score in BY_LOGITS.items()}
    rule = choose({name: scores[name] for name in ("energy", "confidence")}, right, 1.0, Costs())
    assert rule.score == "energy"
    done = figures(rule, scores["energy"][0], right, scores["energy"][1])
    assert done["out_of_scope_recall"] == 1.0 and done["auroc"] == 1.0
    assert done["in_scope_accuracy_at_threshold"] >= 0.95


def test_confidence_is_the_calibrated_probability_of_the_likeliest_class() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(Abstention("confidence", 0.6, 2.0).values(logits), [1 / (1 + np.exp(-1)), 0.5])
    assert Abstention("confidence", 0.6, 2.0).accepts(logits).tolist() == [True, False]


def test_the_risk_falls_as_fewer_are_answered() -> None:
    curve = risk_coverage(np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, True, False, True]), points=4)
    assert [p["risk"] for p in curve] == pytest.approx([0, 0, 1 / 3, 1 / 4])
    assert risk_coverage(np.zeros(0), np.zeros(0, bool)) == []
