"""Features as of a time see nothing of what came later, whatever it is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from shopsight.training.data.tables import EVENT_TYPES
from shopsight.training.profiles import features, measures
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.features import Tables, compute, fit_spec
from tests.training.small_shop import START, event, table

AS_OF = START + timedelta(days=30)
ITEMS = [
    {"item_id": "novel", "category_path": "Books > Fiction", "price": 10.0},
    {"item_id": "atlas", "category_path": "Books > Maps", "price": 30.0},
    {"item_id": "spade", "category_path": "Garden", "price": 20.0},
]
PEOPLE = ("ann", "bob", "cid")


def _bought(customer: str, item: str, day: float, price: float, **more: Any) -> dict[str, Any]:
    paid = {"price": price, "quantity": 1, "currency": "EUR", "order_id": f"{customer}{day}", **more}
    return event(customer, item, "purchase", day, **paid)


EVENTS = [
    *(event(c, i, "view", d, session_id=f"{c}{int(d)}", price=p) for c in PEOPLE
      for i, d, p in (("novel", 1.1, 10.0), ("atlas", 8.2, 30.0), ("spade", 8.21, 20.0))),
    *(_bought(c, i, d, p, discount=s) for c in PEOPLE[:2]
      for i, d, p, s in (("novel", 2.5, 10.0, 0.0), ("spade", 9.5, 20.0, 5.0), ("novel", 20.4, 11.0, 2.0))),
    event("ann", "novel", "return", 21.0, price=10.0),
    event("bob", "novel", "rating", 22.0, rating=2.0),
]  # fmt: skip
MESSAGES = [{"message_id": "m1", "customer_id": "ann", "timestamp": START + timedelta(days=3), "text": "hi"}]
READ = {"m1": (0.9, "thanks"), "late": (-1.0, "complaint")}


def _tables(more: dict[str, list[dict[str, Any]]]) -> Tables:
    read = [{"message_id": key, "tone": tone, "intent": intent} for key, (tone, intent) in READ.items()]
    return Tables(
        events=table("events", [*EVENTS, *more.get("events", [])]).lazy(),
        items=table("items", [*ITEMS, *more.get("items", [])]).lazy(),
        customers=table(
            "customers", [*({"customer_id": c} for c in PEOPLE), *more.get("customers", [])]
        ).lazy(),
        messages=table("messages", [*MESSAGES, *more.get("messages", [])]).lazy(),
        read_messages=pl.LazyFrame(read),
    )


def _changed(more: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What changes when rows of later than AS_OF are there: names of features, "spec", "customers"."""
    measured = []
    for tables in (_tables({}), _tables(more)):
        spec = fit_spec(tables, as_of=AS_OF, config=ProfilesConfig())
        measured.append((spec, compute(tables, spec, AS_OF)))
    (spec, before), (spec_after, after) = measured
    if spec != spec_after:
        return ["spec"]
    if before["customer_id"].to_list() != after["customer_id"].to_list():
        return ["customers"]
    return [name for name in spec.names if not before[name].equals(after[name])]


LEAK = {
    "events": [
        *(_bought("cid", "novel", 40.0 + n, 5000.0, channel="leak", discount=100.0) for n in range(9)),
        event("cid", "atlas", "view", 30.0, price=1.0),  # at the very instant that is asked for
        _bought("dee", "atlas", 31.0, 1.0),
        event("ann", "novel", "return", 33.0),
    ],
    "items": [{"item_id": "gold", "category_path": "Books > Fiction", "price": 99_999.0}],
    "customers": [{"customer_id": "dee", "first_seen": START + timedelta(days=31)}],
    "messages": [{"message_id": "late", "customer_id": "ann", "timestamp": AS_OF, "text": "angry"}],
}


def test_a_planted_leak_changes_nothing() -> None:
    assert _changed(LEAK) == []


def test_the_planted_leak_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaky(events: pl.LazyFrame, _: object) -> pl.LazyFrame:
        return events.filter(pl.col("customer_id").is_not_null())

    monkeypatch.setattr(measures, "customer_events", leaky)
    caught = set(_changed(LEAK))
    assert caught >= {"recency_days", "frequency", "monetary_total", "price_to_median", "return_rate"}
    monkeypatch.setattr(features, "customer_events", leaky)
    assert _changed(LEAK) == ["spec"]


def test_a_catalogue_price_of_today_tells_nothing_of_the_past() -> None:
    """What an item cost then is what events then show; the catalogue has only its price of today."""
    dearer = [item | {"price": item["price"] * 100} for item in ITEMS]
    tables = _tables({})
    spec = fit_spec(tables, as_of=AS_OF, config=ProfilesConfig())
    repriced = Tables(tables.events, table("items", dearer).lazy(), tables.customers, tables.messages)
    before = compute(Tables(tables.events, tables.items, tables.customers, tables.messages), spec, AS_OF)
    assert_frame_equal(compute(repriced, spec, AS_OF), before)


later = st.floats(30.0, 400.0, allow_nan=False)
future_events = st.builds(
    lambda customer, item, kind, day, price, discount, channel, session: event(
        customer, item, kind, day, price=price, discount=discount, channel=channel, session_id=session,
        quantity=1, currency="EUR", rating=5.0,
    ),
    st.sampled_from([*PEOPLE, "dee", None]), st.sampled_from(["novel", "atlas", "spade", "gold", None]),
    st.sampled_from(EVENT_TYPES), later, st.floats(0, 1e6) | st.none(), st.floats(0, 1e6) | st.none(),
    st.sampled_from(["web", "leak", None]), st.sampled_from(["ann1", "bob8", "new", None]),
)  # fmt: skip
future_items = st.builds(
    lambda number, path: {"item_id": f"new{number}", "category_path": path, "price": 1.0 + number},
    st.integers(0, 1000),
    st.sampled_from(["Books > Fiction", "Garden", None]),
)
future_messages = st.builds(
    lambda customer, day: {
        "message_id": "late", "customer_id": customer, "timestamp": START + timedelta(days=day), "text": "no"
    },
    st.sampled_from([*PEOPLE, "dee"]), later,
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries({
        "events": st.lists(future_events, max_size=8),
        "items": st.lists(future_items, max_size=3, unique_by=lambda item: item["item_id"]),
        "messages": st.lists(future_messages, max_size=2),
    })
)  # fmt: skip
def test_rows_of_the_future_never_change_a_feature(more: dict[str, list[dict[str, Any]]]) -> None:
    assert _changed(more) == []
