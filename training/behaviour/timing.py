"""The time from one purchase to the next, for those who came back and those who have not yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from shopsight.training.behaviour.errors import BehaviourError
from shopsight.training.data.cleaning.goods import of_goods
from shopsight.training.data.period import period

AFTER_DAYS = (7, 14, 30, 60, 90, 180, 365)
NUM_PURCHASES = 4  # purchases after which the return is measured: the first to the fourth
BIN_DAYS = 7
_Z = 1.959963984540054  # 95 %
_KEY = "customer_id"

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Timing:
    """The time to the next purchase after the first, second … purchase day of a customer.

    returned: one row a purchase number and time: purchase, days, at_risk (customers followed that long who
    had not come back), returned (share that came back within `days`, Kaplan-Meier, with its 95 % interval),
    null beyond the longest time that anybody was followed.
    hazard: purchase, from_day, to_day, customer_days (days at risk), returns and rate (returns a customer and
    day at risk, with its exact 95 % Poisson interval).
    medians: purchase, customers, came_back, and the median days to the next purchase with its 95 % interval;
    null where fewer than half are seen to come back.
    """

    medians: pl.DataFrame
    returned: pl.DataFrame
    hazard: pl.DataFrame
    notes: tuple[str, ...]


def timing(
    events: pl.LazyFrame,
    items: pl.LazyFrame,
    *,
    num_purchases: int = NUM_PURCHASES,
    bin_days: int = BIN_DAYS,
    after_days: Sequence[int] = AFTER_DAYS,
) -> Timing:
    """Measure how soon customers buy again; who has not yet is followed until the end of the data.

    events, items: as in training/data/tables.py. All purchases of goods on one day (UTC) are one. Each
    customer counts once for every purchase number, so that the intervals hold. The data ends with the day of
    the last purchase, wrong clocks apart. Raises BehaviourError for impossible settings and if there are no
    purchases.
    """
    if num_purchases < 1 or bin_days < 1 or not after_days or min(after_days) < 1:
        raise BehaviourError("num_purchases, bin_days and every one of after_days must be at least 1")
    spans = _spans(events, items)
    medians, returned, hazards = [], [], []
    for number in range(1, num_purchases + 1):
        own = spans.filter(number=number)
        if own.is_empty():
            break
        curve = kaplan_meier(own["days"].to_numpy(), own["came_back"].to_numpy())
        label = pl.lit(number, dtype=pl.Int64).alias("purchase")
        medians.append(_median(curve, own).select(label, pl.all()))
        returned.append(_returned(curve, after_days).select(label, pl.all()))
        hazards.append(_hazard(curve, bin_days).select(label, pl.all()))
    notes = (
        "all purchases of a customer on one day are one; the time is in days to the next such day",
        "who has not come back yet counts as at risk until the end of the data (Kaplan-Meier)",
        "the first purchase is the first in the data",
    )
    return Timing(pl.concat(medians), pl.concat(returned), pl.concat(hazards), notes)


def kaplan_meier(days: NDArray[np.int64], came_back: NDArray[np.bool_]) -> pl.DataFrame:
    """Return the product-limit estimate of the share that has not come back, one row a day from 0.

    days: int64 [n] from 0 up, to the return or, where came_back is False, to the end of the data; who is
    lost on a day is at risk on that day. Columns: day, at_risk, returns, survival (after the day) and its
    95 % interval low, high on the log-log scale with Greenwood's variance (Kaplan and Meier,
    1958; Kalbfleisch and Prentice, 2002, section 1.4); both are null before the first return, and where all
    came back.
    """
    size = int(days.max()) + 1
    returns = np.bincount(days[came_back], minlength=size)
    at_risk = days.size - np.concatenate([[0], np.cumsum(np.bincount(days, minlength=size))[:-1]])
    survival = np.cumprod(1 - returns / at_risk)
    left = at_risk - returns
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(returns / (at_risk * left.astype(np.float64)))
        reach = _Z * np.sqrt(greenwood) / np.log(survival)
        low, high = survival ** np.exp(-reach), survival ** np.exp(reach)
    known = (survival > 0) & (survival < 1)
    bounds = {"low": np.where(known, low, np.nan), "high": np.where(known, high, np.nan)}
    return pl.DataFrame(
        {"day": np.arange(size), "at_risk": at_risk, "returns": returns, "survival": survival}
    ).with_columns(pl.Series(name, values).fill_nan(None) for name, values in bounds.items())


def _spans(events: pl.LazyFrame, items: pl.LazyFrame) -> pl.DataFrame:
    """Return customer_id, number (of the purchase day), days and came_back."""
    bought = of_goods(events.filter(pl.col("event") == "purchase"), items).drop_nulls("timestamp")
    found = period(bought)
    if found is None:
        raise BehaviourError("there are no purchases; ingest a source of orders first")
    end = _following(found[1])
    days = (
        bought.filter(pl.col(_KEY).is_not_null(), pl.col("timestamp") < end)
        .select(_KEY, day=pl.col("timestamp").dt.date())
        .unique()
        .sort(_KEY, "day")
        .collect()
    )
    if days.is_empty():
        raise BehaviourError("no purchase has a customer; name the column of customers in the sources file")
    following = pl.col("day").shift(-1).over(_KEY)
    last: date = found[1].date()
    return days.select(
        _KEY,
        number=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over(_KEY),
        days=(following.fill_null(pl.lit(last)) - pl.col("day")).dt.total_days(),
        came_back=following.is_not_null(),
    )


def _following(time: datetime) -> datetime:
    """The midnight after a time."""
    return time.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def _median(curve: pl.DataFrame, own: pl.DataFrame) -> pl.DataFrame:
    """The first day on which half came back; its interval inverts that of the curve (Brookmeyer, Crowley)."""

    def first_at_most_half(column: str) -> int | None:
        days = curve.filter(pl.col(column) <= 0.5)["day"]
        return int(days[0]) if days.len() else None

    return pl.DataFrame(
        {
            "customers": [own.height],
            "came_back": [int(own["came_back"].sum())],
            "median_days": [first_at_most_half("survival")],
            "median_days_low": [first_at_most_half("low")],
            "median_days_high": [first_at_most_half("high")],
        },
        schema_overrides={f"median_days{end}": pl.Int64 for end in ("", "_low", "_high")},
    )


def _returned(curve: pl.DataFrame, after_days: Sequence[int]) -> pl.DataFrame:
    asked = pl.DataFrame({"days": sorted(set(after_days))}, schema={"days": pl.Int64})
    found = asked.join(curve, left_on="days", right_on="day", how="left", maintain_order="left")
    return found.select(
        "days",
        "at_risk",
        returned=1 - pl.col("survival"),
        returned_low=1 - pl.col("high"),
        returned_high=1 - pl.col("low"),
    )


def _hazard(curve: pl.DataFrame, bin_days: int) -> pl.DataFrame:
    """Occurrences over exposure; the exact interval of a Poisson count is Garwood's (1936)."""
    binned = (
        curve.filter(pl.col("day") > 0)  # purchases of one day are one, so nobody comes back on day 0
        .group_by(from_day=(pl.col("day") - 1) // bin_days * bin_days + 1)
        .agg(
            to_day=pl.col("day").max(), customer_days=pl.col("at_risk").sum(), returns=pl.col("returns").sum()
        )
        .sort("from_day")
    )
    returns, exposure = binned["returns"].to_numpy(), binned["customer_days"].to_numpy()
    low: Float64 = np.where(returns > 0, stats.chi2.ppf(0.025, 2 * np.maximum(returns, 1)) / 2, 0.0)
    high: Float64 = stats.chi2.ppf(0.975, 2 * (returns + 1)) / 2
    rates = {"rate": returns, "rate_low": low, "rate_high": high}
    return binned.with_columns(pl.Series(name, value / exposure) for name, value in rates.items())
