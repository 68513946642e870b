"""Chooses when to abstain: one score of the intent head, and the threshold of the lowest expected cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopsight.serving.routing.scope import Abstention, Values
from shopsight.training.evaluation.undefined import share
from shopsight.training.language.metrics import area_under_roc


@dataclass(frozen=True)
class Costs:
    """Costs of wrong answers, and how many messages are out of scope.

    wrong_answer: cost of a wrong answer; handing a message over to a person costs 1. out_of_scope_share:
    expected share of out-of-scope messages in production, 0 to 1.
    """

    wrong_answer: float = 4.0
    out_of_scope_share: float = 0.1


def choose(
    scores: Mapping[str, tuple[Values, Values]], right: NDArray[np.bool_], temperature: float, costs: Costs
) -> Abstention:
    """Choose the score with the best separation on validation, and the threshold of the lowest expected cost.

    scores: for each score its values on n messages in scope, float64 [n], and m out of scope, float64 [m].
    right: bool [n], whether the likeliest class is the true one. If m = 0, the last score is chosen, and the
    threshold depends on the in-scope errors alone.
    """
    score = list(scores)[-1]
    if len(scores[score][1]):
        score = max(scores, key=lambda name: area_under_roc(*scores[name]))
    in_score, out_score = scores[score]
    threshold = least_cost_threshold(in_score, right, out_score, costs)
    return Abstention(score, threshold, temperature)


def least_cost_threshold(
    in_score: Values, right: NDArray[np.bool_], out_score: Values, costs: Costs
) -> float:
    """Return the threshold of the lowest expected cost per message; the lowest one if several are equal.

    A right answer costs 0, handing a message over costs 1, and answering wrongly, or a message out of scope,
    costs `wrong_answer`.
    """
    share = costs.out_of_scope_share if len(out_score) else 0.0
    score = np.concatenate([in_score, out_score])
    gain = np.concatenate(
        [
            (1 - share) / len(in_score) * (np.where(right, 0.0, costs.wrong_answer) - 1),
            np.full(len(out_score), share / max(1, len(out_score)) * (costs.wrong_answer - 1)),
        ]
    )  # what is saved by handing each message over
    order = np.argsort(score, kind="stable")
    values, first = np.unique(score[order], return_index=True)
    saved = np.concatenate([[0.0], np.cumsum(gain[order])])[np.append(first, len(score))]
    best = int(np.argmax(saved))
    if best == 0:
        return float(values[0])
    above = values[best] if best < len(values) else values[-1] + abs(values[-1]) + 1.0
    return float((values[best - 1] + above) / 2)


def expected_cost(
    in_score: Values, right: NDArray[np.bool_], out_score: Values, threshold: float, costs: Costs
) -> float:
    """Return the mean cost of a message at a threshold; costs as in least_cost_threshold."""
    share = costs.out_of_scope_share if len(out_score) else 0.0
    inside = np.where(in_score < threshold, 1.0, np.where(right, 0.0, costs.wrong_answer))
    outside = np.where(out_score < threshold, 1.0, costs.wrong_answer)
    beyond = float(outside.mean()) if len(outside) else 0.0
    return (1 - share) * float(inside.mean()) + share * beyond


def figures(
    rule: Abstention, in_score: Values, right: NDArray[np.bool_], out_score: Values
) -> dict[str, Any]:
    """Return how the rule treats messages in and out of scope; rejecting one in scope counts as an error."""
    accepted = in_score >= rule.threshold
    return {
        "rule": rule.as_dict(),
        "in_scope_accuracy_before": share(right),
        "in_scope_accuracy_at_threshold": share(right & accepted),
        "accuracy_of_answered": share(right[accepted]),
        "coverage": share(accepted),
        "risk_coverage": risk_coverage(in_score, right),
        **(
            {
                "num_out_of_scope": len(out_score),
                "out_of_scope_recall": float((out_score < rule.threshold).mean()),
                "auroc": area_under_roc(in_score, out_score),
            }
            if len(out_score)
            else {}
        ),
    }


def risk_coverage(score: Values, right: NDArray[np.bool_], points: int = 10) -> list[dict[str, float]]:
    """Return the error rate among the most confident share of the messages, at shares 1/points to 1.

    values float64 [n], right bool [n]. This is the risk-coverage curve (El-Yaniv and Wiener 2010).
    """
    order = np.argsort(-score, kind="stable")
    error = np.cumsum(~right[order]) / np.arange(1, len(order) + 1)
    counts = [max(1, round(len(order) * (i + 1) / points)) for i in range(points)] if len(order) else []
    return [{"coverage": n / len(order), "risk": float(error[n - 1])} for n in counts]
