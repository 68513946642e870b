"""Features of customers as of a time: fit the specification to a shop, then compute it for every customer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.kernels.backend import polars_engine
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.cleaning.goods import of_goods
from shopsight.training.data.consent import PROFILING, permitted
from shopsight.training.data.money import events_in_main
from shopsight.training.data.tables import scan_table
from shopsight.training.profiles import measures, rhythm
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.feature_list import shop_features
from shopsight.training.profiles.measures import customer_events, ratio, top_level
from shopsight.training.profiles.message_features import intents_asked, message_features
from shopsight.training.profiles.spec import FeatureSpec


@dataclass(frozen=True)
class Tables:
    """The tables that features are computed from, as lazy frames (see training/data/tables.py).

    read_messages: message_id, tone and intent as language/reading.py gives them, or None.
    """

    events: pl.LazyFrame
    items: pl.LazyFrame
    customers: pl.LazyFrame
    messages: pl.LazyFrame
    read_messages: pl.LazyFrame | None = None

    @property
    def of_goods(self) -> pl.LazyFrame:
        """The events without lines that are no goods, such as postage; those count as money alone."""
        return of_goods(self.events, self.items)

    @staticmethod
    def of(workspace: Workspace, read_messages: pl.DataFrame | None = None) -> Tables:
        """Scan the tables of a workspace, without the rows of customers who forbid profiling."""
        names = ("events", "customers", "messages")
        scanned = {name: permitted(workspace, name, PROFILING) for name in names}
        scanned["events"] = events_in_main(workspace.tables, scanned["events"])
        read = None if read_messages is None else read_messages.lazy()
        return Tables(**scanned, items=scan_table(workspace.tables, "items"), read_messages=read)


def fit_spec(tables: Tables, *, as_of: datetime, config: ProfilesConfig) -> FeatureSpec:
    """Choose the channels, categories, intents and currency of a shop from its rows before `as_of` alone.

    Amounts in other currencies than the most frequent one are left out of the money features.
    """
    known = customer_events(tables.of_goods, as_of)
    category = tables.items.select("item_id", top_level().alias("category"))
    by_item = known.select("item_id").join(category, on="item_id", how="left")
    channels = _most_frequent(known, "channel", config.max_channels)
    categories = _most_frequent(by_item, "category", config.max_categories)
    currency = _most_frequent(known.filter(pl.col("event") == "purchase"), "currency", 1)
    intents: tuple[str, ...] = ()
    if tables.read_messages is not None:
        asked = intents_asked(tables.messages, tables.read_messages, as_of)
        intents = _most_frequent(asked, "intent", config.max_intents)
    return FeatureSpec(
        features=shop_features(channels, categories, config.half_lives_days, intents),
        channels=channels,
        categories=categories,
        intents=intents,
        currency=currency[0] if currency else None,
        half_lives_days=tuple(config.half_lives_days),
        timezone=config.timezone,
    )


def compute(tables: Tables, spec: FeatureSpec, as_of: datetime) -> pl.DataFrame:
    """Return the features of every customer known before `as_of`, from rows before `as_of` alone.

    The columns are customer_id (sorted) and one Float32 column per feature of `spec`, in its order. Counts of
    a customer without events are 0; shares, means and recencies without events are NaN.
    """
    return plan(tables, spec, as_of).collect(engine=polars_engine())


def plan(tables: Tables, spec: FeatureSpec, as_of: datetime) -> pl.LazyFrame:
    """Return the query that `compute` runs, the same for Polars' CPU and cuDF engines."""
    first_seen = pl.col("first_seen")
    known = pl.concat(
        [
            tables.customers.filter(first_seen.is_null() | (first_seen < as_of)).select("customer_id"),
            customer_events(tables.events, as_of).select("customer_id"),
        ]
    ).unique()
    table = known
    for measured in _measured(tables, spec, as_of):
        table = table.join(measured, on="customer_id", how="left")
    counts = [feature.name for feature in spec.features if feature.unit == "count"]
    table = table.with_columns(pl.col(*counts, "num_carts", "num_returns", "monetary_total").fill_null(0))
    table = table.with_columns(
        monetary_mean=ratio("monetary_total", "frequency"),
        basket_size=ratio("num_purchases", "frequency"),
        cart_rate=ratio("num_carts", "num_views"),
        purchase_rate=ratio("num_purchases", "num_views"),
        return_rate=ratio("num_returns", "num_purchases"),
    )
    columns = [pl.col(name).cast(pl.Float32).fill_null(float("nan")) for name in spec.names]
    return table.select("customer_id", *columns).sort("customer_id")


def feature_matrix(features: pl.DataFrame) -> NDArray[np.float32]:
    """Return measured features as float32 [customers, features], NaN where missing."""
    return np.ascontiguousarray(features.drop("customer_id").to_numpy(), dtype=np.float32)


def _measured(tables: Tables, spec: FeatureSpec, as_of: datetime) -> list[pl.LazyFrame]:
    rows = measures.described_events(
        tables.of_goods, tables.items, as_of=as_of, currency=spec.currency, categories=spec.categories
    )
    half_lives = spec.half_lives_days
    return [
        measures.activity(rows, half_lives_days=half_lives, channels=spec.channels),
        measures.purchases(rows, half_lives_days=half_lives),
        measures.spending(tables.events, as_of=as_of, currency=spec.currency),
        measures.tastes(rows, categories=spec.categories),
        rhythm.orders(rows),
        rhythm.visits(rows),
        rhythm.times(rows, timezone=spec.timezone),
        message_features(tables.messages, tables.read_messages, as_of=as_of, intents=spec.intents),
    ]


def _most_frequent(frame: pl.LazyFrame, column: str, limit: int) -> tuple[str, ...]:
    counted = frame.filter(pl.col(column).is_not_null()).group_by(column).len()
    top = counted.sort("len", column, descending=[True, False]).head(limit).collect(engine=polars_engine())
    return tuple(sorted(top[column].to_list()))
