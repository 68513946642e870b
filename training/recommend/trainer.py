"""Train the recommender: choose settings on one window, evaluate on the next, then fit to all events."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import product
from typing import Any

from shopsight.serving.progress import Progress, counted
from shopsight.training.artifacts.trained_state import training
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.recommend.checkpoint import FAMILY, Choice, Trained, save
from shopsight.training.recommend.config import RecommendConfig
from shopsight.training.recommend.evaluation import measure
from shopsight.training.recommend.evaluator import Evaluator
from shopsight.training.recommend.factorisation import fit
from shopsight.training.recommend.shop import Shop


def train(workspace: Workspace, config: RecommendConfig, progress: Progress) -> dict[str, Any]:
    """Train on everything in the tables and replace the trained recommender; returns the test figures.

    Raises NoInteractions when no event ties a customer to an item, Busy when another process trains it.
    """
    with training(workspace, FAMILY) as run:
        trained = _fitted(workspace, config, progress)
        save(run, trained)
        return trained.metrics


def _fitted(workspace: Workspace, config: RecommendConfig, progress: Progress) -> Trained:
    shop = Shop(workspace, config)
    cut = shop.windows
    choice = choose(shop, progress)
    judged = fit(shop.user_items(cut.test), choice, config)
    progress(f"evaluating on {cut.test:%Y-%m-%d} to {cut.end:%Y-%m-%d}, which the choice did not see")
    metrics = measure(shop, judged, choice)
    final = fit(shop.user_items(cut.end), choice, config, progress)
    progress(f"fitted {final.user_items.nnz:,} interactions of {final.user_items.shape[0]:,} customers")
    return Trained(
        final=final,
        judged=judged,
        choice=choice,
        catalogue=shop.known,
        metrics=metrics,
        config=asdict(config),
    )


def choose(shop: Shop, progress: Progress) -> Choice:
    """Try every combination of settings on the validation window and return the best by recall.

    Whether to recommend bought items again is chosen too: in a shop of consumables this is better. With ties,
    or without customers in the window, it is the first combination, without recommending again.
    """
    config, cut = shop.config, shop.windows
    past = shop.user_items(cut.validation)
    evaluator = Evaluator.of(shop, past, cut.validation, cut.test)
    again = {"auto": (False, True), "yes": (True,), "no": (False,)}[config.bought_again]
    combinations = list(product(config.unobserved_weights, config.regularizations))
    best = Choice(*combinations[0], bought_again=again[0], recall=None, tried=())
    tried: list[dict[str, Any]] = []
    with counted(progress, "settings", len(combinations)) as done:
        for unobserved_weight, regularization in combinations if len(evaluator.users) else ():
            model = fit(past, Choice(unobserved_weight, regularization, again[0], 0.0, ()), config)
            for bought_again in again:
                recall = evaluator.recall(evaluator.by_factors(model, bought_again)) or 0.0
                option = Choice(unobserved_weight, regularization, bought_again, recall, ())
                tried.append({name: value for name, value in asdict(option).items() if name != "tried"})
                best = option if best.recall is None or recall > best.recall else best
            progress(
                f"unobserved weight {unobserved_weight:g}, regularization {regularization:g}: "
                f"validation recall@{evaluator.k} {max(row['recall'] for row in tried[-len(again) :]):.4f}"
            )
            done(1)
    if not tried:
        progress("no customers in the validation window to choose on: the first settings are used")
    return replace(best, tried=tuple(tried))
