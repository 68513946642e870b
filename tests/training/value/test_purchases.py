"""Purchase histories of a few customers, counted by hand."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from shopsight.training.value.purchases import (
    BadHistory,
    Histories,
    NoPurchases,
    checked,
    histories,
    purchases_between,
)
from tests.training.small_shop import START, event, table


def bought(customer: str | None, day: float, price: float | None = 10.0, **more: Any) -> dict[str, Any]:
    return event(
        customer, more.pop("item", "i"), "purchase", day, **{"price": price, "currency": "EUR", **more}
    )


def back(customer: str, day: float, price: float = 10.0, **more: Any) -> dict[str, Any]:
    return event(customer, more.pop("item", "i"), "return", day, price=price, currency="EUR", **more)


def table_of(rows: list[dict[str, Any]]) -> pl.LazyFrame:
    return table("events", rows).lazy()


def known(rows: list[dict[str, Any]], day: float = 100.0, **settings: Any) -> Histories:
    return histories(table("events", rows).lazy(), START + timedelta(days=day), **settings)


def history(rows: list[dict[str, Any]], day: float = 100.0, **settings: Any) -> tuple[Any, ...]:
    """frequency, recency, T, num_priced, monetary_value of the one customer."""
    (row,) = known(rows, day, **settings).table.drop("customer_id").rows()
    return tuple(row)


def test_orders_of_one_day_are_one_purchase() -> None:
    rows = [bought("a", 3.1), bought("a", 3.9, 20.0, quantity=2), bought("a", 10.5, 5.0, discount=1.0)]
    assert history(rows) == (1, 7, 97, 2, (50.0 + 4.0) / 2)


def test_nothing_of_the_future_is_seen() -> None:
    past = [bought("a", 3.1), bought("a", 10.5, 30.0), bought("b", 8.0)]
    later = [
        bought("a", 20.0, 500.0),
        back("a", 20.1),
        bought("c", 25.0),
        *[bought("a", 30.0, currency="USD")] * 9,
    ]
    cut = known(past, 15.0)
    leaked = known(past + later, 15.0)
    assert leaked.table.equals(cut.table) and leaked.currency == "EUR"
    assert known(past + later).table.height == 3  # the leak that was planted is there to be found


@pytest.mark.parametrize(
    ("sent_back", "expected"),
    [
        (back("a", 12.0, order_id="o1"), (0, 0, 90, 1, 30.0)),  # of its order, the whole of that day
        (back("a", 12.0, 4.0, order_id="o1"), (1, 7, 97, 2, (6.0 + 30.0) / 2)),
        (back("a", 12.0, order_id="C77"), (0, 0, 90, 1, 30.0)),  # no such order: the latest of the item
        (back("a", 12.0, 12.0, item="never bought"), (1, 7, 97, 2, (10.0 + 18.0) / 2)),  # the latest of all
        (back("a", 1.0), (1, 7, 97, 2, 20.0)),  # before any purchase
    ],
)
def test_a_return_counts_against_what_it_returns(
    sent_back: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    rows = [bought("a", 3.0, item="i", order_id="o1"), bought("a", 10.0, 30.0, item="j", order_id="o2")]
    assert history([*rows, sent_back]) == expected


def test_a_return_does_not_cross_customers() -> None:
    both = known(
        [bought("a", 3.0, order_id="o"), bought("b", 3.0, order_id="o"), back("b", 9.0, order_id="o")]
    )
    assert both.table["customer_id"].to_list() == ["a"]
    assert both.notes == ("1 purchase days were sent back whole and count as none",)


def test_a_purchase_without_a_currency_never_counts_in_the_main_one() -> None:
    rows = [bought("a", 3.0), bought("a", 5.0, 50.0, currency=None), bought("a", 6.0)]
    found = known(rows)
    assert found.table.rows()[0] == ("a", 2, 3, 97, 2, 10.0)
    assert "1 purchases without a currency count without their money" in found.notes[0]
    nowhere = known([bought("a", day, currency=None) for day in (3.0, 5.0)])
    assert nowhere.currency is None and nowhere.table.rows()[0] == ("a", 1, 2, 97, 2, 10.0)


def test_other_currencies_are_converted_or_left_out_of_the_money_aloud() -> None:
    rows = [
        bought("a", 3.0),
        bought("a", 5.0, 50.0, currency="USD"),
        bought("a", 6.0),
        bought("b", 7.0, None),
    ]
    without = known(rows)
    assert without.currency == "EUR"
    assert without.table.rows()[0] == ("a", 2, 3, 97, 2, 10.0)
    assert "1 purchases in USD count without their money" in without.notes[0]
    assert "[currency.rates] of the sources file says how many EUR" in without.notes[0]
    assert without.table["num_priced"][1] == 0 and np.isnan(without.table["monetary_value"][1])


def test_fees_are_paid_and_are_no_purchase() -> None:
    rows = [
        bought("a", 3.0),
        bought("a", 3.0, 4.0, item="POST"),
        bought("a", 5.0, 50.0, item="GIFT"),  # a day of fees alone
        bought("a", 6.0, 20.0),
        back("a", 6.5, 3.0, item="D"),  # a discount, told as a return
        bought("b", 3.0, order_id="o"),
        bought("b", 3.0, 4.0, item="POST", order_id="o"),
        back("b", 9.0, order_id="o"),  # all goods came back, the postage stays paid
        bought("b", 20.0),
    ]
    table = known(rows, fees=("POST", "GIFT", "D")).table
    assert table.rows() == [("a", 1, 3, 97, 2, (14.0 + 17.0) / 2), ("b", 0, 0, 80, 1, 10.0)]
    begin, end = START + timedelta(days=4), START + timedelta(days=30)
    told = purchases_between(events := table_of(rows), begin, end, ("POST", "GIFT", "D"))
    assert told.sort("customer_id").rows() == [("a", 1, 17.0), ("b", 1, 10.0)]
    assert purchases_between(events, begin, end).sort("customer_id").rows()[0][1] == 2


def test_who_is_not_known_buys_for_nobody() -> None:
    with pytest.raises(NoPurchases, match="before 2026-04-11"):
        known([bought(None, 3.0), event("a", "i", "view", 4.0)])
    with pytest.raises(NoPurchases):
        known([bought("a", 3.0), back("a", 4.0)])


def test_what_happened_in_a_window_is_counted_as_histories_are() -> None:
    rows = [
        bought("a", 3.0),
        bought("a", 10.0, 30.0),
        bought("a", 10.5),
        bought("b", 12.0),
        back("b", 13.0),
        bought("a", 20.0),
    ]
    begin, end = START + timedelta(days=10), START + timedelta(days=15)
    found = purchases_between(table("events", rows).lazy(), begin, end)
    assert found.rows() == [("a", 1, 40.0)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"frequency": -1}, "frequency of row 1 is -1"),
        ({"frequency": 1.5}, "frequency of row 1 is 1.5; it must be a whole number"),
        ({"recency": 31.0}, "recency of row 1 is 31.0; it must be at most T"),
        ({"recency": 0.0}, "recency of row 1 is 0.0; it must be above 0 where frequency is"),
        ({"frequency": 0}, "recency of row 1 is 20.0; it must be 0 where frequency is 0"),
        ({"T": float("inf")}, "T of row 1 is inf"),
        ({"T": None}, "T of row 1 is None"),
        ({"monetary_value": -3.0}, "monetary_value of row 1 is -3.0; it must be from 0 up: take returns off"),
    ],
)
def test_histories_that_cannot_be_are_refused_by_column_and_row(change: dict[str, Any], said: str) -> None:
    good = {"frequency": 2, "recency": 20.0, "T": 30.0, "monetary_value": 5.0}
    rows = [good, good | change]
    with pytest.raises(BadHistory) as refused:
        checked(pl.DataFrame(rows, infer_schema_length=None, strict=False))
    assert said in str(refused.value)


def test_histories_that_can_be_are_accepted() -> None:
    rows = [(0, 0.0, 0.0, 0.0), (0, 0.0, 9.0, None), (3, 9.0, 9.0, float("nan")), (1, 0.5, 1e6, 2.0)]
    checked(pl.DataFrame(rows, schema=["frequency", "recency", "T", "monetary_value"], orient="row"))


def test_a_folder_is_not_needed(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    table("events", [bought("a", 3.0)]).write_parquet(path)
    found = histories(pl.scan_parquet(path), START + timedelta(days=9))
    assert found.table["T"].to_list() == [6]
