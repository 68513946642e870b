"""The split in time: what lies after the cut stays unseen, and the report notices when it does not."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_matrix

from shopsight.training.data.tables import scan_table, write_tables
from shopsight.training.recommend.checkpoint import Choice
from shopsight.training.recommend.config import RecommendConfig
from shopsight.training.recommend.embedding.config import FeatureConfig
from shopsight.training.recommend.embedding.examples import Examples
from shopsight.training.recommend.embedding.measuring import leaks
from shopsight.training.recommend.embedding.shop_examples import write_shop_examples
from shopsight.training.recommend.evaluation import measure
from shopsight.training.recommend.factorisation import fit
from shopsight.training.recommend.interactions import user_items
from shopsight.training.recommend.shop import Shop
from shopsight.training.recommend.split import (
    NoInteractions,
    Windows,
    events_before,
    leak_report,
    target_event,
    windows,
)
from tests.training.small_shop import START, event, tastes_shop, write_shop


def test_windows_follow_each_other_and_end_after_the_last_event(tmp_path: Path) -> None:
    shop = Shop(tastes_shop(tmp_path), RecommendConfig(test_days=14.0))
    last = shop.events.select(pl.col("timestamp").max()).collect().item()
    cut = shop.windows
    assert cut.end > last
    assert cut.end - cut.test == cut.test - cut.validation == timedelta(days=14)


def test_a_short_history_gets_short_windows() -> None:
    events = pl.LazyFrame([event("a", "x", "view", 0.0), event("a", "x", "view", 10.0)])
    cut = windows(events, test_days=0.0)
    assert cut.end - cut.test == timedelta(days=1)


def test_no_matrix_of_the_past_changes_when_the_future_does(tmp_path: Path) -> None:
    workspace = tastes_shop(tmp_path)
    cut = START + timedelta(days=60)
    before = Shop(workspace, RecommendConfig())
    events = scan_table(workspace.tables, "events").collect()
    later = pl.col("timestamp") >= cut
    changed = events.with_columns(
        item_id=pl.when(later).then(pl.lit("Books-0")).otherwise("item_id"),
        event=pl.when(later).then(pl.lit("purchase")).otherwise("event"),
    )
    expected = [m(cut) for m in (before.user_items, before.bought, before.popularity)]
    known = before.known.item_ids.to_list()
    write_tables(workspace.tables, {"events": changed})
    after = Shop(workspace, RecommendConfig())
    assert after.known.item_ids.to_list() == known
    for matrix, other in zip(expected, (m(cut) for m in (after.user_items, after.bought, after.popularity)),
                             strict=True):  # fmt: skip
        difference = abs(matrix - other)
        assert difference.max() == 0


def test_targets_are_what_happened_inside_the_window(tmp_path: Path) -> None:
    workspace = write_shop(
        tmp_path,
        [event("a", f"i{day}", "purchase", float(day)) for day in range(6)] + [event("a", "i9", "view", 3.5)],
    )
    shop = Shop(workspace, RecommendConfig())
    found = shop.targets(START + timedelta(days=2), START + timedelta(days=4))
    assert [shop.known.item_ids[int(i)] for i in found[0].indices] == ["i2", "i3"]


def _report(shop: Shop, before: datetime, cut: Windows | None = None) -> dict[str, Any]:
    """The report on a model that was fitted to everything before a time."""
    cut = cut or shop.windows
    past = user_items_of(shop, events_before(shop.events, cut.test), cut.end)
    return leak_report(shop.events, shop.items, shop.known, cut, shop.user_items(before), past)


def user_items_of(shop: Shop, events: pl.LazyFrame, before: datetime) -> csr_matrix:
    config = shop.config
    return user_items(events, shop.known, config.event_weights, config.half_life_days, before)


def test_the_leak_report_passes_an_honest_split_and_states_its_facts(tmp_path: Path) -> None:
    workspace = write_shop(
        tmp_path,
        [event("a", "old", "view", 0.0), event("a", "old", "view", 9.0), event("b", "new", "view", 9.5)],
    )
    shop = Shop(workspace, RecommendConfig(test_days=1.0))
    report = _report(shop, shop.windows.test)
    assert report["passed"] and report["train_cells"] == 1
    assert (report["items_only_in_test"], report["customers_only_in_test"]) == (1, 1)


def test_the_leak_report_catches_planted_leaks(tmp_path: Path) -> None:
    workspace = write_shop(
        tmp_path,
        [event("a", "early", "view", 0.0), event("a", "x", "view", 9.0)],
        [{"item_id": "early", "available_from": START + timedelta(days=9)}, {"item_id": "x"}],
    )
    shop = Shop(workspace, RecommendConfig())
    cut = Windows(START + timedelta(days=4), START + timedelta(days=8), START + timedelta(days=10))
    report = _report(shop, cut.test, cut)
    assert report["train_cells_of_items_not_yet_available"] == 1 and not report["passed"]


def test_the_leak_report_counts_what_is_repeated(tmp_path: Path) -> None:
    again = [event("a", "old", "view", 0.0), event("a", "old", "view", 9.0), event("a", "old", "view", 9.1)]
    shop = Shop(
        write_shop(tmp_path, [*again, event("a", "new", "view", 9.2)]), RecommendConfig(test_days=1.0)
    )
    report = _report(shop, shop.windows.test)
    assert (report["test_cells"], report["test_cells_also_in_training"]) == (2, 1) and report["passed"]


@pytest.mark.parametrize(
    "later", ["another", "old"]
)  # a cell of its own, and weight in a cell that was there
def test_the_leak_report_looks_at_the_matrix_that_was_trained_on(tmp_path: Path, later: str) -> None:
    workspace = write_shop(
        tmp_path,
        [event("a", "old", "view", 0.0), event("a", later, "purchase", 9.0), event("b", "old", "view", 1.0)],
    )
    shop = Shop(workspace, RecommendConfig(test_days=1.0))
    assert _report(shop, shop.windows.test)["passed"]
    report = _report(shop, shop.windows.end)
    assert not report["passed"]
    assert report["train_cells_without_earlier_event"] == (later == "another")
    assert report["train_cells_with_later_weight"] == 1  # what is old has faded, or grown


def test_a_model_fitted_to_the_test_window_does_not_pass(tmp_path: Path) -> None:
    shop = Shop(tastes_shop(tmp_path, num_customers=30), RecommendConfig(factors=4, num_bootstraps=2))
    choice = Choice(0.1, 0.05, True, 0.0, ())
    for before, passed in ((shop.windows.test, True), (shop.windows.end, False)):
        model = fit(shop.user_items(before), choice, shop.config)
        assert measure(shop, model, choice)["leaks"]["passed"] == passed


def test_embeddings_fitted_to_the_test_window_do_not_pass(tmp_path: Path) -> None:
    shop = Shop(tastes_shop(tmp_path / "shop", num_customers=30), RecommendConfig())
    for name, before, passed in (("honest", shop.windows.test, True), ("leaky", shop.windows.end, False)):
        write_shop_examples(tmp_path / name, shop, before, FeatureConfig())
        assert leaks(shop, Examples.open(tmp_path / name))["passed"] == passed


def test_what_is_predicted_is_the_best_that_the_data_have() -> None:
    def events(*kinds: str) -> pl.LazyFrame:
        return pl.LazyFrame({"event": list(kinds)})

    assert target_event(events("view", "cart", "purchase")) == "purchase"
    assert target_event(events("view", "cart")) == "cart"
    assert target_event(events("view", "rating")) == "view"


def test_events_without_customers_are_nothing_to_learn_from(tmp_path: Path) -> None:
    shop = Shop(write_shop(tmp_path, [event(None, "x", "view", 1.0)]), RecommendConfig())
    with pytest.raises(NoInteractions, match="customer and an item"):
        _ = shop.windows


def test_items_that_cannot_be_sold_are_known_by_their_dates(tmp_path: Path) -> None:
    day = timedelta(days=1)
    items = [
        {"item_id": "always"},
        {"item_id": "gone", "available_to": START + 5 * day},
        {"item_id": "to come", "available_from": START + 9 * day},
    ]
    shop = Shop(write_shop(tmp_path, [event("a", "unlisted", "view", 1.0)], items), RecommendConfig())
    sellable = dict(zip(shop.known.item_ids, shop.available(START + 5 * day), strict=True))
    assert sellable == {"always": True, "gone": False, "to come": False, "unlisted": True}
    assert np.all(shop.available(START + 4 * day) == [True, True, False, True])
