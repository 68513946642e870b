"""Flags of the cleaning rules, against obvious references: what is flagged stays in the tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from shopsight.training.data.cleaning.clocks import clocks, hourly, implausible
from shopsight.training.data.cleaning.near_duplicates import near_duplicate_events, near_duplicate_texts
from shopsight.training.data.cleaning.outliers import outliers
from shopsight.training.data.cleaning.returns import matched_returns
from shopsight.training.data.cleaning.times import parse_times
from shopsight.training.data.tables import SCHEMAS

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def events(*rows: dict[str, object]) -> pl.DataFrame:
    """Events with ids e0, e1 …, purchases of one mug by c1 unless a row says otherwise."""
    usual = {"customer_id": "c1", "item_id": "mug", "event": "purchase", "channel": "web", "timestamp": NOON}
    filled = [
        {"event_id": f"e{i}", "quantity": 1, "price": 10.0, **usual, **row} for i, row in enumerate(rows)
    ]
    frame = pl.DataFrame(filled, infer_schema_length=None)
    missing = [pl.lit(None, dtype=t).alias(n) for n, t in SCHEMAS["events"].items() if n not in frame.columns]
    frame = frame.with_columns(missing).select(pl.col(n).cast(t) for n, t in SCHEMAS["events"].items())
    return frame.sort("customer_id", "timestamp", "event_id", nulls_last=True)


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def found(flags: pl.DataFrame) -> list[tuple[str, str, str | None]]:
    return sorted(flags.select("rule", "id", "related_id").iter_rows())


def test_a_double_click_is_a_near_duplicate_and_a_later_one_is_not() -> None:
    rows = events(
        {"event": "view"},
        {"event": "view", "timestamp": later(1)},
        {"event": "view", "timestamp": later(1.5), "item_id": "cup"},
        {"event": "view", "timestamp": later(2.5)},
        {"event": "view", "timestamp": later(60)},
        {"event": "view", "timestamp": later(60.5), "customer_id": "c2"},
        {"event": "view", "timestamp": later(60.6), "price": 11.0},
    )
    assert found(near_duplicate_events(rows)) == [
        ("near_duplicate", "e1", "e0"),
        ("near_duplicate", "e3", "e1"),
    ]


def test_an_order_line_that_came_again_with_another_price_is_resent() -> None:
    rows = events(
        {"order_id": "o1", "line_id": "1"},
        {"order_id": "o1", "line_id": "2"},
        {"order_id": "o1", "line_id": "1", "price": 12.0, "timestamp": later(3600)},
    )
    assert found(near_duplicate_events(rows)) == [("resent_line", "e2", "e0")]


def test_texts_that_differ_in_case_and_a_word_are_near_duplicates() -> None:
    def message(number: int, text: str, customer: str, item: str | None = "mug") -> dict[str, object]:
        return {"message_id": f"m{number}", "text": text, "customer_id": customer, "item_id": item} | {
            "timestamp": later(number)
        }

    said = "The mug keeps my coffee warm for hours, I love it"
    rows = [
        message(0, said, "c1"),
        message(1, said.upper() + "!!!", "c2"),
        message(2, said.replace("love", "loved"), "c1", "cup"),
        message(3, "The mug keeps my coffee warm, but the handle broke after two days of use", "c3"),
        message(4, said, "c4", "plate"),
        message(5, "ok", "c1"),
        message(6, "ok", "c1"),
    ]
    flags = near_duplicate_texts(pl.DataFrame(rows))
    assert found(flags) == [
        ("near_duplicate_text", "m1", "m0"),
        ("near_duplicate_text", "m2", "m0"),
    ]
    assert flags["value"].min() >= 90  # type: ignore[operator]


def test_a_return_takes_back_the_latest_purchase_that_fits() -> None:
    rows = events(
        {"quantity": 5, "price": 10.0},
        {"quantity": 2, "price": 12.0, "timestamp": later(10)},
        {"event": "return", "quantity": 2, "price": 10.0, "timestamp": later(20)},
        {"event": "return", "quantity": 3, "price": 10.0, "timestamp": later(30)},
        {"event": "return", "quantity": 1, "price": 10.0, "timestamp": later(40)},
        {"event": "return", "quantity": 1, "item_id": "cup", "timestamp": later(50)},
        {"event": "return", "quantity": 1, "customer_id": None, "timestamp": later(60)},
        {"quantity": 1, "timestamp": later(70)},
    )
    flags = matched_returns(rows.lazy())
    assert found(flags) == [
        ("return_matched", "e2", "e0"),
        ("return_matched", "e3", "e0"),
        ("return_matched", "e4", "e1"),
        ("return_unmatched", "e5", None),
        ("return_unmatched", "e6", None),
        ("returned", "e0", "e3"),
        ("returned", "e1", "e4"),
    ]
    taken = dict(flags.filter(pl.col("rule") == "returned").select("id", "value").iter_rows())
    assert taken == {"e0": 5.0, "e1": 1.0}


def test_outliers_are_those_of_median_and_mad_of_logarithms() -> None:
    rng = np.random.default_rng(3)
    prices = np.round(10 * np.exp(rng.normal(0, 0.3, 200)), 2)
    prices[[5, 9]] = 1_000.0, 0.01
    rows = events(*({"price": float(p)} for p in prices), {"item_id": "rare", "price": 9_999.0})
    x = np.log(prices)
    middle = np.sort(x)[(x.size - 1) // 2]
    mad = np.sort(np.abs(x - middle))[(x.size - 1) // 2]
    score = 0.6745 * (x - middle) / mad
    flags = outliers(rows.lazy()).filter(pl.col("rule") == "price_outlier")
    expected = {f"e{i}" for i in np.flatnonzero(np.abs(score) > 5)}
    assert set(flags["id"]) == expected >= {"e5", "e9"}
    values = dict(flags.select("id", "value").iter_rows())
    assert values["e5"] == pytest.approx(score[5], abs=1e-3)


def test_a_price_that_never_varies_may_be_tripled_and_a_quantity_may_be_ten() -> None:
    rows = [{"price": 10.0, "quantity": 1}] * 50
    rows += [{"price": 25.0}, {"price": 40.0}, {"quantity": 10}, {"quantity": 500}]
    flags = outliers(events(*rows).lazy())
    assert sorted(flags.select("rule", "id").iter_rows()) == [
        ("price_outlier", "e51"),
        ("quantity_outlier", "e53"),
    ]


def test_a_clock_that_is_hours_off_is_told_and_a_time_far_from_all_others_flagged() -> None:
    rng = np.random.default_rng(1)
    rows = []
    for channel, shift in (("web", 0), ("app", 0), ("till", 7)):
        for day in range(30):
            hours = np.clip(rng.normal(14, 2.5, 100), 0, 23.9) + shift
            rows += [
                {"channel": channel, "timestamp": NOON.replace(hour=0) + timedelta(days=day, hours=h)}
                for h in hours
            ]
    rows.append({"timestamp": NOON + timedelta(days=2_000)})
    frame = events(*rows)
    counts = hourly(frame.lazy())
    assert [(clock.channel, clock.hours) for clock in clocks(counts) if clock.suspect] == [("till", 7)]
    flagged = frame.filter(implausible(counts))
    assert flagged["event_id"].to_list() == [f"e{len(rows) - 1}"]


def test_digits_are_dates_by_their_length_and_unix_time_otherwise() -> None:
    texts = [
        "20240501",
        "20240501103000",
        "1714559400",
        "1714559400000",
        "1714559400000000",
        "1719012812345",
        "12",
    ]
    read = [str(t)[:19] for t in parse_times(pl.Series(texts))]
    # Thirteen digits are milliseconds, never the year 1719.
    assert read[:2] == ["2024-05-01 00:00:00", "2024-05-01 10:30:00"]
    assert read[2:5] == ["2024-05-01 10:30:00"] * 3 and read[5:] == ["2024-06-21 23:33:32", "None"]


@pytest.mark.parametrize("votes", [["13/05/2024"], ["13/05/2024", "05/14/2024", "15/05/2024"]])
def test_the_whole_file_decides_whether_the_day_comes_first(votes: list[str]) -> None:
    texts = pl.Series(["03/04/2024", *votes])
    for order in (texts, texts.reverse()):
        assert str(parse_times(order).filter(order == "03/04/2024")[0])[:10] == "2024-04-03"
