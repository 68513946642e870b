"""Evaluate the recommender on a test window that neither its fit nor its settings have seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags

from shopsight.kernels.topk import topk
from shopsight.training.artifacts.plain_settings import config_from
from shopsight.training.artifacts.snapshots import on_one_snapshot, snapshot_sha256
from shopsight.training.artifacts.trained_state import NotTrained, write_metrics
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.evaluation.leaks import leak_worth
from shopsight.training.evaluation.ranking import recall_at_k
from shopsight.training.profiles.checkpoint import load as load_profiles
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.features import Tables, compute, feature_matrix, fit_spec
from shopsight.training.profiles.segments import TooFewCustomers, fit_segments
from shopsight.training.recommend.checkpoint import Choice, load_current
from shopsight.training.recommend.config import RecommendConfig
from shopsight.training.recommend.evaluator import Evaluator, Lists
from shopsight.training.recommend.factorisation import fit
from shopsight.training.recommend.mf.model import MatrixFactorization
from shopsight.training.recommend.neighbours import ItemKNN, Transitions
from shopsight.training.recommend.neighbours.model import HistoryModel
from shopsight.training.recommend.segment_popularity import by_segment
from shopsight.training.recommend.shop import Shop
from shopsight.training.recommend.split import leak_report

PROTOCOL = (
    "global split in time: settings are chosen on the window before the test window, the model is fitted to "
    "everything before the test window; customers with a past and a target event in the window; targets are "
    "the items of that event; all items that can be sold when the window begins are ranked; recall divides "
    "by min(k, targets); 95 % bootstrap intervals over customers"
)


@on_one_snapshot
def evaluate(workspace: Workspace, config: RecommendConfig) -> dict[str, Any]:
    """Measure the trained recommender again and store its metrics.

    The windows are those of the training, not of `config`, which may change k and the number of resamples.
    Raises NotTrained if there is no model or the tables changed since.
    """
    state, trained = load_current(workspace)
    then = config_from(RecommendConfig, trained.config)
    kept = ("test_days", "half_life_days", "half_life_steps", "max_judged", "seed")
    shop = Shop(workspace, replace(config, **{name: getattr(then, name) for name in kept}))
    metrics = measure(shop, trained.judged, trained.choice)
    write_metrics(workspace, state, metrics)
    return metrics


def measure(shop: Shop, model: MatrixFactorization, choice: Choice) -> dict[str, Any]:
    """Return recall, NDCG and coverage on the test window, those of simple methods, and the leak report.

    The simple methods are popularity, item-kNN and counted transitions with faded weights (neighbours/) at
    their defaults, fitted to the same events: what a model must surpass to be worth its training.
    """
    config, cut = shop.config, shop.windows
    evaluator = Evaluator.of(shop, model.user_items, cut.test, cut.end)
    draws = (config.seed, config.num_bootstraps)
    again = choice.bought_again
    lists = evaluator.by_factors(model, again)
    popular = evaluator.by_popularity(shop.popularity(cut.test), again)
    metrics: dict[str, Any] = {
        "protocol": PROTOCOL,
        "data_sha256": snapshot_sha256(shop.workspace.tables),
        "target": shop.target,
        "validation_start": cut.validation.isoformat(),
        "test_start": cut.test.isoformat(),
        "test_end": cut.end.isoformat(),
        "bought_items_recommended_again": again,
        "num_customers": len(evaluator.users),
        "num_customers_without_past": evaluator.num_cold,
        "num_items": shop.known.shape[1],
        **evaluator.figures(lists, *draws),
        **evaluator.apart(lists, *draws),
        "popularity": evaluator.figures(popular, *draws),
        "times_popularity": evaluator.ratio(lists, popular, *draws),
        **_neighbours(shop, evaluator, again),
        "leaks": leak_report(
            shop.events, shop.items, shop.known, cut, model.user_items, shop.user_items_of_the_past(cut.test)
        ),
        f"leaks_in_recall_at_{evaluator.k}": _worth_of_leaks(shop, model, choice, evaluator),
        "chosen": {
            "unobserved_weight": choice.unobserved_weight,
            "regularization": choice.regularization,
            f"validation_recall_at_{evaluator.k}": choice.recall,
        },
        "tried": list(choice.tried),
    }
    segments = _segments_before(shop)
    if segments is not None:
        per_segment = by_segment(shop, segments, cut.test)
        of_users = evaluator.by_popularity(per_segment, again, segments[evaluator.users])
        metrics["segment_popularity"] = evaluator.figures(of_users, *draws)
    return metrics


def _worth_of_leaks(
    shop: Shop, model: MatrixFactorization, choice: Choice, evaluator: Evaluator
) -> dict[str, dict[str, Any]]:
    """Return what leaks would be worth to this factorisation, for the customers who are judged."""
    cut, config = shop.windows, shop.config

    def rank(
        fitted: MatrixFactorization, who: NDArray[np.int64], hidden: csr_matrix | None, may: NDArray[np.bool_]
    ) -> Lists:
        x, y = fitted.retrieval_factors()
        mask: dict[str, Any] = {"exclude_items": np.flatnonzero(~may).astype(np.int32)}
        if hidden is not None:
            mask["exclude_indptr"] = hidden.indptr.astype(np.int64)
            mask["exclude_indices"] = hidden.indices.astype(np.int32)
        return topk(x[who], y, evaluator.k, **mask)[0]

    judged = np.isin(np.arange(shop.known.shape[0]), evaluator.users)
    return leak_worth(
        model,
        lambda matrix: fit(matrix, choice, config),
        rank,
        recall_at_k,
        past=shop.user_items_of_the_past(cut.test),
        whole=shop.user_items(cut.end),
        relevant=csr_matrix(diags(judged.astype(np.float64)) @ shop.targets(cut.test, cut.end)),
        available=shop.available(cut.test),
        seed=config.seed,
        num_resamples=config.num_bootstraps,
    )


def _neighbours(shop: Shop, evaluator: Evaluator, again: bool) -> dict[str, Any]:
    """Return the figures of item-kNN and transitions on the test window."""
    histories = shop.histories(shop.windows.test)
    draws = (shop.config.seed, shop.config.num_bootstraps)
    models: dict[str, HistoryModel] = {"item_knn": ItemKNN(), "transitions": Transitions()}
    return {
        name: evaluator.figures(evaluator.by_histories(model.fit(histories), histories, again), *draws)
        for name, model in models.items()
    }


def _segments_before(shop: Shop) -> NDArray[np.int64] | None:
    """Return segments of customers as of the test window, int64 [customers]; None without profiles.

    The served segments have seen the test window, so as many segments are fitted again. Customers who were
    not known yet count as newcomers.
    """
    try:
        trained = load_profiles(shop.workspace)
    except NotTrained:
        return None
    config = ProfilesConfig(
        **(trained.config | {"num_segments": trained.model.num_clusters, "num_bootstraps": 1})
    )
    at = shop.windows.test
    tables = Tables.of(shop.workspace)
    spec = fit_spec(tables, as_of=at, config=config)
    features = compute(tables, spec, at)
    raw = feature_matrix(features)
    try:
        model, _ = fit_segments(raw, spec, config, lambda _: None)
    except TooFewCustomers:
        return None
    found = np.full(shop.known.shape[0], model.num_clusters)
    rows = shop.known.customer_ids.search_sorted(features["customer_id"])
    found[np.asarray(rows)] = model.assign(raw)[0]
    return found
