"""Every measure against a slow, obvious one, on a small shop where everything happens at random."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from polars.testing import assert_frame_equal

from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.features import Tables, compute, fit_spec
from tests.training.small_shop import START, event, table

AS_OF = START + timedelta(days=60)
PATHS = {f"i{n}": ("Books > Fiction", "Books > Maps", "Garden", None)[n % 4] for n in range(12)}
NAN = float("nan")


def _shop(seed: int) -> tuple[Tables, list[dict[str, Any]]]:
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(500):
        customer, item = f"c{rng.integers(9)}", f"i{rng.integers(12)}"
        kind = str(rng.choice(["view", "cart", "purchase", "return", "rating", "search"]))
        more: dict[str, Any] = {"channel": rng.choice(["web", "app"])}
        if rng.random() < 0.7:
            more["session_id"] = f"{customer}-{rng.integers(6)}"
        if rng.random() < 0.8:
            more |= {"price": float(rng.integers(1, 50)), "currency": "EUR"}
        if kind in ("purchase", "return"):
            more |= {"quantity": int(rng.integers(1, 4)), "currency": "EUR"}
            if rng.random() < 0.5:
                more["order_id"] = f"{customer}-o{rng.integers(5)}"
            if rng.random() < 0.4:
                more["discount"] = float(rng.integers(0, 9))
        rows.append(event(customer, item, kind, float(rng.uniform(0, 60)) + n / 1e6, **more))
    items = [{"item_id": item, "category_path": path} for item, path in PATHS.items()]
    empty = {name: table(name, []).lazy() for name in ("customers", "messages")}
    return Tables(table("events", rows).lazy(), table("items", items).lazy(), **empty), rows


def _evenness(counts: Sequence[int], kinds: int) -> float:
    total = sum(counts)
    if total < 2 or kinds < 2:
        return NAN
    entropy = -sum(c / total * math.log(c / total) for c in counts if c)
    return entropy / math.log(min(total, kinds))


def _gaps(times: Sequence[Any]) -> list[float]:
    ordered = sorted(times)
    return [(b - a).total_seconds() / 86_400 for a, b in pairwise(ordered)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else NAN


def _top(item: str) -> str:
    path = PATHS[item]
    return path.split(" > ")[0] if path else "(other)"


def _expected(rows: list[dict[str, Any]], customer: str) -> dict[str, float]:
    own = [row for row in rows if row["customer_id"] == customer]
    bought = [row for row in own if row["event"] == "purchase"]
    return {**_of_purchases(rows, bought), **_of_visits(own), **_of_times(own), **_of_taste(own, bought)}


def _of_purchases(rows: list[dict[str, Any]], bought: list[dict[str, Any]]) -> dict[str, float]:
    orders: dict[str, list[Any]] = defaultdict(list)
    for row in bought:
        day = row["timestamp"].date().isoformat()
        orders[row.get("order_id") or row.get("session_id") or day].append(row["timestamp"])
    gaps = _gaps([min(times) for times in orders.values()])
    lines = [row for row in rows if row["event"] == "purchase"]
    cut = {row["event_id"]: row.get("discount", 0.0) > 0 for row in lines}
    lift = []
    for row in bought:
        others = [o for o in lines if o["item_id"] == row["item_id"] and o["event_id"] != row["event_id"]]
        if others:
            lift.append(cut[row["event_id"]] - _mean([cut[o["event_id"]] for o in others]))
    gross = {row["event_id"]: row["price"] * row["quantity"] for row in bought if "price" in row}
    saved = {
        row["event_id"]: min(row.get("discount", 0.0), gross.get(row["event_id"], math.inf)) for row in bought
    }
    whole = sum(gross[i] for i in gross if cut[i])
    usual = {i: _mean([row["quantity"] for row in lines if row["item_id"] == i]) for i in PATHS}
    pieces = [(cut[row["event_id"]], row["quantity"] / usual[row["item_id"]]) for row in bought]
    by_cut = [[number for c, number in pieces if c is wanted] for wanted in (True, False)]
    return {
        "frequency": len(orders),
        "order_gap_days": _mean(gaps),
        "order_gap_variation": np.std(gaps, ddof=1) / _mean(gaps) if len(gaps) > 1 else NAN,
        "monetary_total": sum(gross[i] - saved[i] for i in gross),
        "discount_share": _mean([cut[row["event_id"]] for row in bought]),
        "discount_lift": _mean(lift),
        "discount_depth": sum(saved[i] for i in gross if cut[i]) / whole if whole else NAN,
        "discount_quantity": _mean(by_cut[0]) / _mean(by_cut[1]),
        "price_to_median": _mean([row["price"] / _median(rows, row) for row in bought if "price" in row]),
        "recent_purchases.7d": sum(
            0.5 ** ((AS_OF - row["timestamp"]).total_seconds() / 86_400 / 7) for row in bought
        ),
    }


def _median(rows: list[dict[str, Any]], row: dict[str, Any]) -> float:
    alike = [item for item in PATHS if PATHS[item] == PATHS[row["item_id"]]]
    levels = [_mean([r["price"] for r in rows if r["item_id"] == item and "price" in r]) for item in alike]
    return float(np.nanmedian(levels))


def _of_visits(own: list[dict[str, Any]]) -> dict[str, float]:
    made: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in own:
        if "session_id" in row and row["event"] in ("view", "cart", "search", "purchase"):
            made[row["session_id"]].append(row)
    times = [[row["timestamp"] for row in visit] for visit in made.values()]
    return {
        "num_sessions": len(made),
        "session_events": _mean([len(visit) for visit in made.values()]),
        "session_minutes": _mean([int((max(t) - min(t)).total_seconds()) / 60 for t in times]),
        "session_items": _mean(
            [len({row["item_id"] for row in visit if row["event"] == "view"}) for visit in made.values()]
        ),
        "session_conversion": _mean(
            [any(row["event"] == "purchase" for row in visit) for visit in made.values()]
        ),
        "session_gap_days": _mean(_gaps([min(t) for t in times])),
    }


def _of_times(own: list[dict[str, Any]]) -> dict[str, float]:
    times = [row["timestamp"] for row in own]
    hours = Counter(hour for _, hour in {(t.date(), t.hour) for t in times})
    days = Counter(date.weekday() for date in {t.date() for t in times})
    return {
        "hour_evenness": _evenness(list(hours.values()), 24),
        "weekday_evenness": _evenness(list(days.values()), 7),
        "weekend_share": _mean([t.weekday() >= 5 for t in times]),
        "hour_share.evening": _mean([t.hour >= 20 for t in times]),
    }


def _of_taste(own: list[dict[str, Any]], bought: list[dict[str, Any]]) -> dict[str, float]:
    viewed = [_top(row["item_id"]) for row in own if row["event"] == "view"]
    lines = Counter(_top(row["item_id"]) for row in bought)
    return {
        "view_share.Books": _mean([category == "Books" for category in viewed]),
        "view_share.(other)": _mean([category == "(other)" for category in viewed]),
        "category_evenness": _evenness(list(lines.values()), 3),
        "viewed_category_evenness": _evenness(list(Counter(viewed).values()), 3),
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_figures_are_those_of_the_obvious_computation(seed: int) -> None:
    tables, rows = _shop(seed)
    spec = fit_spec(tables, as_of=AS_OF, config=ProfilesConfig())
    assert spec.categories == ("Books", "Garden")
    measured = {row["customer_id"]: row for row in compute(tables, spec, AS_OF).iter_rows(named=True)}
    assert len(measured) == 9
    for customer, found in measured.items():
        for name, value in _expected(rows, customer).items():
            assert found[name] == pytest.approx(value, rel=2e-5, abs=1e-6, nan_ok=True), (customer, name)


def test_the_order_of_rows_says_nothing() -> None:
    tables, _ = _shop(3)
    spec = fit_spec(tables, as_of=AS_OF, config=ProfilesConfig())
    shuffled = tables.events.collect().sample(fraction=1.0, shuffle=True, seed=1).lazy()
    again = compute(Tables(shuffled, tables.items, tables.customers, tables.messages), spec, AS_OF)
    assert_frame_equal(again, compute(tables, spec, AS_OF), rel_tol=1e-6)
