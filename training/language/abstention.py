"""Chooses when to abstain: one score of the intent head, and the threshold that costs least."""

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
    """What an answer may cost, in hand-overs to a person, and how often none of the intents is meant.

    wrong_answer: cost of answering wrongly, a hand-over being 1. out_of_scope_share: of the messages to come.
    """

    wrong_answer: float = 4.0
    out_of_scope_share: float = 0.1


def choose(
    scores: Mapping[str, tuple[Values, Values]], right: NDArray[np.bool_], temperature: float, costs: Costs
) -> Abstention:
    """Choose the score that separates validation best, and the threshold of the least expected cost.

    scores: of n messages in scope and of m out of it, by each score; right bool [n]: whether the likeliest
    class is. Without any out of scope (m = 0) the last score is taken, and in-scope errors alone decide.
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
    """Return the threshold of the least expected cost per message; the lowest of several.

    Answering rightly costs nothing, handing over 1, answering wrongly or out of scope `wrong_answer`.
    """
    share = costs.out_of_scope_share if len(out_score) else 0.0
    score = np.concatenate([in_score, out_score])
    gain = np.concatenate(
        [
            (1 - share) / len(in_score) * (np.where(right, 0.0, costs.wrong_answer) - 1),
            np.full(len(out_score), share / max(1, len(out_score)) * (costs.wrong_answer - 1)),
        ]
    )  # what handing each message over saves
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
    """Return what a message costs on average at a threshold, a hand-over being 1; as least_cost_threshold."""
    share = costs.out_of_scope_share if len(out_score) else 0.0
    inside = np.where(in_score < threshold, 1.0, np.where(right, 0.0, costs.wrong_answer))
    outside = np.where(out_score < threshold, 1.0, costs.wrong_answer)
    beyond = float(outside.mean()) if len(outside) else 0.0
    return (1 - share) * float(inside.mean()) + share * beyond


def figures(
    rule: Abstention, in_score: Values, right: NDArray[np.bool_], out_score: Values
) -> dict[str, Any]:
    """Return what the rule does to messages in and out of scope; an in-scope rejection is an error."""
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
    """Return the error among the surest share of the messages, at shares 1/points … 1."""
    order = np.argsort(-score, kind="stable")
    error = np.cumsum(~right[order]) / np.arange(1, len(order) + 1)
    counts = [max(1, round(len(order) * (i + 1) / points)) for i in range(points)] if len(order) else []
    return [{"coverage": n / len(order), "risk": float(error[n - 1])} for n in counts]
