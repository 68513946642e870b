"""The split in time: what lies after the cut stays unseen, and the report notices when it does not."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.training.small_shop import START, event, tastes_shop, write_shop
from training.data.tables import scan_table, write_tables
from training.recommend.config import RecommendConfig
from training.recommend.shop import Shop
from training.recommend.split import NoInteractions, Windows, leak_report, target_event, windows


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


def test_the_leak_report_passes_an_honest_split_and_states_its_facts(tmp_path: Path) -> None:
    workspace = write_shop(
        tmp_path,
        [event("a", "old", "view", 0.0), event("a", "old", "view", 9.0), event("b", "new", "view", 9.5)],
    )
    shop = Shop(workspace, RecommendConfig(test_days=1.0))
    report = leak_report(shop.events, shop.items, shop.known, shop.windows)
    assert report["passed"]
    assert (report["items_only_in_test"], report["customers_only_in_test"]) == (1, 1)


def test_the_leak_report_catches_planted_leaks(tmp_path: Path) -> None:
    workspace = write_shop(
        tmp_path,
        [event("a", "early", "view", 0.0), event("a", "x", "view", 9.0)],
        [{"item_id": "early", "available_from": START + timedelta(days=9)}, {"item_id": "x"}],
    )
    shop = Shop(workspace, RecommendConfig())
    cut = Windows(START + timedelta(days=4), START + timedelta(days=8), START + timedelta(days=10))
    report = leak_report(shop.events, shop.items, shop.known, cut)
    assert report["train_rows_of_items_not_yet_available"] == 1 and not report["passed"]
    same = shop.events.with_columns(event_id=pl.lit("one id in both"))
    report = leak_report(same, shop.items, shop.known, cut)
    assert report["events_in_both"] == 1 and not report["passed"]


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
