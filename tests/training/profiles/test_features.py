"""What is measured of a customer, and that nothing after the asked time is."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.period import NoEvents, end_of_data
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.features import Tables, compute, fit_spec
from shopsight.training.profiles.spec import FeatureSpec
from tests.training.small_shop import START, event, write_shop

ITEMS = [
    {"item_id": "novel", "category_path": "Books > Fiction", "price": 10.0},
    {"item_id": "atlas", "category_path": "Books > Fiction", "price": 30.0},
    {"item_id": "spade", "category_path": "Garden", "price": 20.0},
]


def _measured(workspace: Workspace, as_of: object = None) -> tuple[FeatureSpec, dict[str, dict[str, float]]]:
    at = as_of or end_of_data(workspace)
    tables = Tables.of(workspace)
    spec = fit_spec(tables, as_of=at, config=ProfilesConfig())  # type: ignore[arg-type]
    frame = compute(tables, spec, at)  # type: ignore[arg-type]
    assert frame["customer_id"].is_sorted()
    return spec, {row["customer_id"]: row for row in frame.to_dicts()}


@pytest.fixture
def two_orders(tmp_path: Path) -> Workspace:
    """One customer with two orders, a return and a visit; another with nothing at all."""
    shared = {"currency": "EUR", "session_id": "s1"}
    return write_shop(
        tmp_path,
        [
            event("ann", "novel", "view", 0.0, **shared),
            event("ann", "spade", "view", 0.01, **shared),
            event("ann", "novel", "cart", 0.02, **shared),
            event("ann", "novel", "purchase", 10.0, order_id="o1", quantity=2, price=10.0, currency="EUR"),
            event("ann", "spade", "purchase", 10.0, order_id="o1", quantity=1, price=20.0, currency="EUR",
                  discount=2.0),
            event("ann", "atlas", "purchase", 12.0, order_id="o2", quantity=1, price=30.0, channel="store",
                  currency="EUR"),
            event("ann", "spade", "return", 13.0, order_id="o1", quantity=1, price=20.0, currency="EUR"),
            event("ann", "novel", "rating", 14.0, rating=4.0, session_id="s1"),
            event(None, "novel", "view", 14.5),
            event("ann", "novel", "exposure", 14.6),
        ],
        ITEMS,
        customers=["bob"],
        messages=[{"message_id": "m", "customer_id": "ann", "timestamp": START + timedelta(days=3)}],
    )  # fmt: skip


def test_figures_of_one_customer_are_what_a_person_would_count(two_orders: Workspace) -> None:
    _, measured = _measured(two_orders, START + timedelta(days=22))
    ann = measured["ann"]
    expected = {
        "recency_days": 10.0, "frequency": 2, "monetary_total": 68.0, "monetary_mean": 34.0,
        "num_purchases": 3, "basket_size": 1.5, "tenure_days": 22.0, "inactive_days": 8.0, "num_events": 8,
        "num_views": 2, "num_sessions": 1, "session_events": 3, "session_minutes": 0.02 * 24 * 60,
        "cart_rate": 0.5, "purchase_rate": 1.5, "return_rate": 1 / 3, "discount_share": 1 / 3,
        "rating_mean": 4.0, "num_messages": 1, "channel_share.web": 7 / 8, "channel_share.store": 1 / 8,
        "spend_share.Books": 50 / 68, "spend_share.Garden": 18 / 68, "view_share.Books": 0.5,
        "recent_purchases.7d": 2 * 0.5 ** (12 / 7) + 0.5 ** (10 / 7),
        "recent_purchases.30d": 2 * 0.5 ** (12 / 30) + 0.5 ** (10 / 30),
        "recent_purchases.90d": 2 * 0.5 ** (12 / 90) + 0.5 ** (10 / 90),
        "recent_views.30d": 0.5 ** (22 / 30) + 0.5 ** (21.99 / 30),
        "session_items": 2, "session_conversion": 0.0, "order_gap_days": 2.0, "discount_depth": 0.1,
        "discount_quantity": 1.0,
        # novel is the cheaper, atlas the dearer of two books, spade alone in its category
        "price_percentile": (0.25 + 0.75 + 0.5) / 3,
    }  # fmt: skip
    for name, value in expected.items():
        assert ann[name] == pytest.approx(value, rel=1e-5), name


def test_a_customer_without_events_has_counts_of_zero_and_nothing_else(two_orders: Workspace) -> None:
    spec, measured = _measured(two_orders)
    for feature in spec.features:
        value = measured["bob"][feature.name]
        if feature.unit == "count":
            assert value == 0.0, feature.name
        elif feature.name == "monetary_total":
            assert value == 0.0
        else:
            assert np.isnan(value), feature.name


def test_an_event_at_the_very_time_asked_is_not_seen(tmp_path: Path) -> None:
    workspace = write_shop(tmp_path, [event("ann", "novel", "view", 1.0), event("ann", "novel", "view", 2.0)])
    _, measured = _measured(workspace, START + timedelta(days=2))
    assert measured["ann"]["num_views"] == 1


def test_money_of_another_currency_is_not_added_up(tmp_path: Path) -> None:
    bought = {"quantity": 1, "price": 10.0}
    workspace = write_shop(
        tmp_path,
        [
            event("ann", "novel", "purchase", 1.0, currency="EUR", **bought),
            event("ann", "novel", "purchase", 2.0, currency="EUR", **bought),
            event("ann", "novel", "purchase", 3.0, currency="JPY", quantity=1, price=5000.0),
        ],
    )
    spec, measured = _measured(workspace)
    assert spec.currency == "EUR"
    assert measured["ann"]["monetary_total"] == pytest.approx(20.0)
    assert measured["ann"]["num_purchases"] == 3


def test_purchases_alone_are_enough(tmp_path: Path) -> None:
    workspace = write_shop(tmp_path, [event("ann", "x", "purchase", float(d), price=2.0) for d in range(3)])
    _, measured = _measured(workspace)
    assert measured["ann"]["frequency"] == 3
    assert np.isnan(measured["ann"]["cart_rate"])
    assert measured["ann"]["spend_share.(other)"] == 1.0


def test_a_specification_survives_json(two_orders: Workspace) -> None:
    spec, _ = _measured(two_orders)
    assert FeatureSpec.from_dict(spec.as_dict()) == spec


def test_rare_channels_share_one_feature(tmp_path: Path) -> None:
    events = [event("ann", "x", "view", i / 10, channel=f"c{i % 12}") for i in range(24)]
    events += [event("ann", "x", "view", 5.0, channel="c0")]
    spec, measured = _measured(write_shop(tmp_path, events))
    assert len(spec.channels) == ProfilesConfig().max_channels
    shares = [measured["ann"][f"channel_share.{c}"] for c in (*spec.channels, "(other)")]
    assert sum(shares) == pytest.approx(1.0)
    assert measured["ann"]["channel_share.(other)"] == pytest.approx(8 / 25)


def test_an_empty_events_table_is_refused_by_name(tmp_path: Path) -> None:
    workspace = write_shop(tmp_path, [], ITEMS, customers=["ann"])
    with pytest.raises(NoEvents, match="events"):
        end_of_data(workspace)


def test_hours_are_those_of_the_shops_own_clocks(tmp_path: Path) -> None:
    # START is midnight of a Thursday in UTC: seven in the evening of Wednesday in New York.
    workspace = write_shop(tmp_path, [event("ann", "x", "view", d) for d in (0.0, 3.0)])
    tables, at = Tables.of(workspace), end_of_data(workspace)
    found = {}
    for zone in ("UTC", "America/New_York"):
        spec = fit_spec(tables, as_of=at, config=ProfilesConfig(timezone=zone))
        found[zone] = compute(tables, spec, at).row(0, named=True)
    assert found["UTC"]["hour_share.night"] == found["America/New_York"]["hour_share.afternoon"] == 1.0
    assert (found["UTC"]["weekend_share"], found["America/New_York"]["weekend_share"]) == (0.5, 0.5)
    sunday = write_shop(tmp_path / "sunday", [event("ann", "x", "view", 2.1)])  # Saturday 02:24 in UTC
    tables, at = Tables.of(sunday), end_of_data(sunday)
    spec = fit_spec(tables, as_of=at, config=ProfilesConfig(timezone="America/New_York"))
    assert compute(tables, spec, at)["weekend_share"].item() == 0.0
