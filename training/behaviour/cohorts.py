"""Cohorts: how many customers come back, and what they spend, period by period after their first purchase."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from shopsight.training.behaviour.errors import BehaviourError
from shopsight.training.behaviour.shares import with_share
from shopsight.training.data.cleaning.goods import of_goods
from shopsight.training.data.money import line_total
from shopsight.training.data.period import period

PERIODS = {"month": "1mo", "week": "1w"}
_Z = 1.959963984540054  # 95 %
_KEY = "customer_id"


@dataclass(frozen=True)
class Cohorts:
    """Cohorts by the period of the first purchase.

    people: cohort (its first day), period (0 is that of the first purchase), customers (in the cohort),
    bought (those with a purchase in the period) and retention with its 95 % Wilson interval.
    revenue: cohort, currency, period, customers (who paid in that currency in period 0), revenue (sales less
    returns) and kept: revenue as a share of that in period 0, with a 95 % interval of a ratio of sums over
    customers (Cochran, Sampling Techniques, 1977, section 6). Currencies are never added.
    Figures of periods that are not over are null. notes: sentences on what was counted and left out.
    """

    people: pl.DataFrame
    revenue: pl.DataFrame
    notes: tuple[str, ...]


def cohorts(
    events: pl.LazyFrame, items: pl.LazyFrame, by: str = "month", until: datetime | None = None
) -> Cohorts:
    """Follow the customers of each month or week (UTC, weeks from Monday) of first purchase.

    events, items: as in training/data/tables.py, amounts in the main currency where a rate is known. Lines
    that are no goods are no purchases, and count in the revenue. A return counts on its own day. until: the
    first instant that the data does not cover; without it, the end of the day of the last purchase or
    return, wrong clocks apart.
    Raises BehaviourError for another `by` and if nobody bought before `until`.
    """
    if by not in PERIODS:
        raise BehaviourError(f"cohorts are by {' or by '.join(PERIODS)}, not by '{by}'")
    rows = events.filter(pl.col("event").is_in(["purchase", "return"]), pl.col("timestamp").is_not_null())
    if until is not None:
        rows = rows.filter(pl.col("timestamp") < until)
    end = _end(rows) if until is None else until
    owned = rows.filter(pl.col(_KEY).is_not_null(), pl.col("timestamp") < end)
    start = pl.col("timestamp").dt.truncate(PERIODS[by]).alias("start")
    bought = of_goods(owned.filter(pl.col("event") == "purchase"), items)
    active = bought.select(_KEY, start).unique().collect()
    if active.is_empty():
        raise BehaviourError("no customer bought anything in this period; ingest a source of orders first")
    first = active.group_by(_KEY).agg(cohort=pl.col("start").min())
    grid = _grid(first, by, end)
    returning = active.join(first, on=_KEY).group_by("cohort", "start").agg(bought=pl.len())
    counted = grid.join(returning, on=["cohort", "start"], how="left", maintain_order="left")
    people = counted.with_columns(bought=pl.when("over").then(pl.col("bought").fill_null(0)))
    people = with_share(people, "retention", "bought", "customers")
    columns = ("cohort", "period", "customers", "bought", "retention", "retention_low", "retention_high")
    revenue = _revenue(_money(owned, start, first), grid)
    day = pl.col("cohort").dt.date()
    return Cohorts(
        people.select(columns).with_columns(day), revenue.with_columns(day), _notes(owned, by, end)
    )


def _end(rows: pl.LazyFrame) -> datetime:
    found = period(rows)
    if found is None:
        raise BehaviourError("there are no purchases; ingest a source of orders first")
    return found[1].replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def _grid(first: pl.DataFrame, by: str, end: datetime) -> pl.DataFrame:
    """Return one row a cohort and period that began before `end`, in order.

    Columns: cohort, start (of the period), period, customers (in the cohort), and whether both the period of
    the first purchase and this one are over.
    """
    step = PERIODS[by]
    begin = pl.lit(first["cohort"].min(), dtype=first.schema["cohort"])
    starts = pl.select(start=pl.datetime_range(begin, pl.lit(end), step, closed="left")).with_columns(
        number=pl.int_range(pl.len(), dtype=pl.Int64), over=pl.col("start").dt.offset_by(step) <= end
    )
    sizes = first.group_by("cohort").agg(customers=pl.len())
    origins = sizes.join(
        starts.rename({"start": "cohort", "number": "origin", "over": "closed"}), on="cohort"
    )
    grid = origins.join(starts, how="cross").filter(pl.col("number") >= pl.col("origin"))
    grid = grid.with_columns(pl.col("over") & pl.col("closed"), period=pl.col("number") - pl.col("origin"))
    return grid.select("cohort", "start", "period", "customers", "over").sort("cohort", "period")


def _money(owned: pl.LazyFrame, start: pl.Expr, first: pl.DataFrame) -> pl.DataFrame:
    """Return what customers paid in a period: customer_id, cohort, start, currency, amount."""
    amount = pl.when(pl.col("event") == "return").then(-line_total()).otherwise(line_total())
    lines = owned.select(_KEY, "currency", start, amount=amount).filter(pl.col("amount").is_not_null())
    return (
        lines.join(first.lazy(), on=_KEY)
        .filter(pl.col("start") >= pl.col("cohort"))
        .group_by(_KEY, "cohort", "start", "currency")
        .agg(pl.col("amount").sum())
        .collect()
    )


def _revenue(money: pl.DataFrame, grid: pl.DataFrame) -> pl.DataFrame:
    zero = money.filter(pl.col("start") == pl.col("cohort"))
    base = zero.select(_KEY, "cohort", "currency", base="amount")
    bases = base.group_by("cohort", "currency").agg(
        customers=pl.len(), base=pl.col("base").sum(), squares=(pl.col("base") ** 2).sum()
    )
    keys = ["cohort", "start", "currency"]
    paid = money.join(base, on=[_KEY, "cohort", "currency"], how="left", nulls_equal=True)
    sums = paid.group_by(keys).agg(
        revenue=pl.col("amount").sum(),
        paid_squares=(pl.col("amount") ** 2).sum(),
        products=(pl.col("amount") * pl.col("base").fill_null(0.0)).sum(),
    )
    wide = grid.rename({"customers": "size"}).join(bases, on="cohort")
    wide = wide.join(sums, on=keys, how="left", nulls_equal=True)
    wide = wide.with_columns(
        pl.when("over").then(pl.col(c).fill_null(0.0)).alias(c)
        for c in ("revenue", "paid_squares", "products")
    )
    ratio, size = pl.col("revenue") / pl.col("base"), pl.col("size").cast(pl.Float64)
    residuals = pl.col("paid_squares") - 2 * ratio * pl.col("products") + ratio**2 * pl.col("squares")
    reach = _Z * (residuals.clip(lower_bound=0) * size / (size - 1)).sqrt() / pl.col("base")
    known = pl.col("base") > 0
    table = wide.with_columns(kept=pl.when(known).then(ratio)).with_columns(
        kept_low=pl.when(known & (size > 1)).then(pl.col("kept") - reach),
        kept_high=pl.when(known & (size > 1)).then(pl.col("kept") + reach),
    )
    return table.sort("cohort", "currency", "period").select(
        "cohort", "currency", "period", "customers", "revenue", "kept", "kept_low", "kept_high"
    )


def _notes(owned: pl.LazyFrame, by: str, end: datetime) -> tuple[str, ...]:
    sold = owned.filter(pl.col("event") == "purchase")
    unpriced = sold.select(pl.col("price").is_null().sum()).collect().item()
    notes = [
        f"a cohort has the customers of one {by} of first purchase; what they bought before the data begins "
        "is not known",
        f"the data is taken as complete up to {end:%Y-%m-%d %H:%M} UTC; periods that are not over are blank",
    ]
    if unpriced:
        notes.append(f"{unpriced:,} purchases have no price and count without revenue")
    return tuple(notes)
