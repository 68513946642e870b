"""Features of customers as of a time: the specification fitted to a shop, then measured for everyone."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training.data.tables import scan_table
from training.profiles import measures
from training.profiles.config import ProfilesConfig
from training.profiles.measures import customer_events, top_level
from training.profiles.spec import FeatureSpec, shop_features
from training.workspace import Workspace


class NoEvents(ValueError):  # noqa: N818 - reads as what happened
    """There is no event, so there is nothing to measure."""


def fit_spec(
    events: pl.LazyFrame, items: pl.LazyFrame, *, as_of: datetime, config: ProfilesConfig
) -> FeatureSpec:
    """Choose the channels, categories and currency of a shop from its events before `as_of` alone.

    events and items have the columns of training/data/tables.py. Money of other currencies than the most
    frequent one is left out of the money features rather than added up with it.
    """
    known = customer_events(events, as_of)
    by_item = known.join(items.select("item_id", top_level().alias("category")), on="item_id", how="left")
    channels = _most_frequent(known, "channel", config.max_channels)
    categories = _most_frequent(by_item, "category", config.max_categories)
    currency = _most_frequent(known.filter(pl.col("event") == "purchase"), "currency", 1)
    return FeatureSpec(
        features=shop_features(channels, categories),
        channels=channels,
        categories=categories,
        currency=currency[0] if currency else None,
        half_life_days=config.half_life_days,
    )


def compute(
    events: pl.LazyFrame,
    items: pl.LazyFrame,
    customers: pl.LazyFrame,
    messages: pl.LazyFrame,
    *,
    spec: FeatureSpec,
    as_of: datetime,
) -> pl.DataFrame:
    """Measure every customer known before `as_of`, from rows before `as_of` alone.

    Returns customer_id (sorted) and one Float32 column a feature of `spec`, in its order. Counts of a
    customer without events are 0; shares, means and recencies of nothing are NaN.
    """
    known = pl.concat(
        [
            customers.filter(pl.col("first_seen").is_null() | (pl.col("first_seen") < as_of)).select(
                "customer_id"
            ),
            customer_events(events, as_of).select("customer_id"),
        ]
    ).unique()
    table = known
    for measured in _measured(events, items, messages, spec, as_of):
        table = table.join(measured, on="customer_id", how="left")
    counts = [feature.name for feature in spec.features if feature.unit == "count"]
    table = table.with_columns(pl.col(*counts, "num_carts", "num_returns", "monetary_total").fill_null(0))
    table = table.with_columns(
        cart_rate=_ratio("num_carts", "num_views"),
        purchase_rate=_ratio("num_purchases", "num_views"),
        return_rate=_ratio("num_returns", "num_purchases"),
    )
    columns = [pl.col(name).cast(pl.Float32).fill_null(float("nan")) for name in spec.names]
    return table.select("customer_id", *columns).sort("customer_id").collect()


def compute_features(workspace: Workspace, spec: FeatureSpec, as_of: datetime) -> pl.DataFrame:
    """Measure the customers of a workspace's tables (see `compute`)."""
    tables = {
        name: scan_table(workspace.tables, name) for name in ("events", "items", "customers", "messages")
    }
    return compute(**tables, spec=spec, as_of=as_of)


def feature_matrix(features: pl.DataFrame) -> NDArray[np.float32]:
    """Return measured features as float32 [customers, features], NaN where missing."""
    return np.ascontiguousarray(features.drop("customer_id").to_numpy(), dtype=np.float32)


def end_of_data(workspace: Workspace) -> datetime:
    """Return the first instant after the last event: features as of then see everything.

    Raises NoEvents when there is none.
    """
    last: datetime | None = (
        scan_table(workspace.tables, "events").select(pl.col("timestamp").max()).collect().item()
    )
    if last is None:
        raise NoEvents(f"{workspace.tables}: the events table has no rows; ingest a source of events first")
    return last + timedelta(microseconds=1)


def _measured(
    events: pl.LazyFrame, items: pl.LazyFrame, messages: pl.LazyFrame, spec: FeatureSpec, as_of: datetime
) -> list[pl.LazyFrame]:
    rows = measures.described_events(events, items, as_of=as_of, currency=spec.currency)
    half_life = spec.half_life_days
    return [
        measures.activity(rows, as_of=as_of, half_life_days=half_life, channels=spec.channels),
        measures.purchases(rows, as_of=as_of, half_life_days=half_life),
        measures.returns(rows),
        measures.sessions(rows),
        measures.category_shares(
            rows, event="purchase", weight=pl.col("amount"), prefix="spend_share", categories=spec.categories
        ),
        measures.category_shares(
            rows, event="view", weight=pl.lit(1.0), prefix="view_share", categories=spec.categories
        ),
        measures.messages_written(messages, as_of),
    ]


def _ratio(part: str, whole: str) -> pl.Expr:
    return pl.when(pl.col(whole) > 0).then(pl.col(part) / pl.col(whole))


def _most_frequent(frame: pl.LazyFrame, column: str, limit: int) -> tuple[str, ...]:
    counted = frame.filter(pl.col(column).is_not_null()).group_by(column).len()
    top = counted.sort("len", column, descending=[True, False]).head(limit).collect()
    return tuple(sorted(top[column].to_list()))
