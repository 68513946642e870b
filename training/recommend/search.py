"""The search of `tune recommend`: a factorisation measured on the validation window after every epoch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shopsight.training.artifacts.family import Keep, NobodyToEvaluate, Search
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.recommend.config import RecommendConfig


def _fit(workspace: Workspace, config: RecommendConfig, folder: Path, keep: Keep) -> None:
    from shopsight.training.recommend.checkpoint import Choice
    from shopsight.training.recommend.evaluator import Evaluator
    from shopsight.training.recommend.factorisation import fit
    from shopsight.training.recommend.shop import Shop

    shop = Shop(workspace, config)
    cut = shop.windows
    past = shop.user_items(cut.validation)
    evaluator = Evaluator.of(shop, past, cut.validation, cut.test)
    if not len(evaluator.users):
        raise NobodyToEvaluate.between(cut.validation, cut.test)
    choice = Choice(config.unobserved_weights[0], config.regularizations[0], False, 0.0, ())
    again = {"auto": (False, True), "yes": (True,), "no": (False,)}[config.bought_again]
    for epoch in range(1, config.iterations + 1):
        model = fit(past, choice, replace(config, iterations=epoch), checkpoint=folder)
        recall = max(evaluator.recall(evaluator.by_factors(model, one)) or 0.0 for one in again)
        keep(epoch, {f"recall_at_{evaluator.k}": recall})


SEARCH = Search(
    space={
        "recommend.factors": [32, 64, 128],
        "recommend.unobserved_weights": [[0.003], [0.01], [0.03], [0.1], [0.3]],
        "recommend.regularizations": [[0.003], [0.01], [0.03], [0.1]],
        "recommend.regularization_exponent": {"low": 0.0, "high": 1.0},
    },
    read=tuple(
        f"recommend.{name}"
        for name in (
            "event_weights",
            "half_life_days",
            "half_life_steps",
            "factors",
            "iterations",
            "regularization_exponent",
            "unobserved_weights",
            "regularizations",
            "computation",
            "bought_again",
        )
    ),
    measured_by=frozenset({"recommend.k", "recommend.test_days", "recommend.max_judged", "recommend.seed"}),
    one_value=("recommend.unobserved_weights", "recommend.regularizations"),
    num_epochs=lambda config: config.iterations,
    fit=_fit,
)
