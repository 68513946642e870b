"""Online behaviour as one stream of events, ordered by time."""

from __future__ import annotations

import numpy as np
import polars as pl

from shopsight.training.data.shop.behaviour import APP, Sessions, Views, Year
from shopsight.training.data.shop.catalogue import Catalogue
from shopsight.training.data.shop.spec import DAY_SECONDS, NUM_DAYS

_SEARCHES = 0.15  # of sessions start with one
_RATES = 0.12  # of lines bought in the app get stars


def online_events(
    year: Year, orders: pl.DataFrame, catalogue: Catalogue, rng: np.random.Generator
) -> pl.DataFrame:
    """Return what web and app record, by time; only the app's stream carries orders, returns and stars.

    Columns: person, channel, session, anonymous, event, item, time, price, quantity, and for orders order,
    line, discount, sign; stars for ratings; null where an event has no such thing.
    """
    browsing = _browsing(year.sessions, year.views, catalogue, rng)
    paid = orders.filter(channel=APP).with_columns(
        event=pl.when(pl.col("sign") > 0).then(pl.lit("purchase")).otherwise(pl.lit("return")),
        session=pl.col("order"),
        anonymous=pl.lit(False),
    )
    rated = _ratings(paid, catalogue, rng)
    return pl.concat([browsing, paid, rated], how="diagonal_relaxed").sort("time", maintain_order=True)


def _browsing(
    sessions: Sessions, views: Views, catalogue: Catalogue, rng: np.random.Generator
) -> pl.DataFrame:
    price = catalogue.price[views.item]
    seen = pl.DataFrame({"session": views.session, "item": views.item, "time": views.time, "price": price})
    cart = seen.filter(pl.Series(views.carted)).with_columns(
        event=pl.lit("cart"), quantity=pl.lit(1), time=pl.col("time") + 1
    )
    searching = np.flatnonzero(rng.random(sessions.start.size) < _SEARCHES)
    search = pl.DataFrame({"session": searching, "time": sessions.start[searching] - 5})
    frames = [seen.with_columns(event=pl.lit("view")), cart, search.with_columns(event=pl.lit("search"))]
    browsing = pl.concat(frames, how="diagonal_relaxed")
    at = browsing["session"].to_numpy()
    return browsing.with_columns(
        person=pl.Series(sessions.person[at]),
        channel=pl.Series(sessions.channel[at]),
        anonymous=pl.Series(sessions.anonymous[at]),
    )


def _ratings(paid: pl.DataFrame, catalogue: Catalogue, rng: np.random.Generator) -> pl.DataFrame:
    quality = catalogue.quality[paid["item"].to_numpy()]
    stars = np.clip(np.round(3.6 + 1.4 * quality + rng.normal(0, 0.8, paid.height)), 1, 5)
    rated = paid.select(
        "person", "channel", "session", "item", "anonymous", "sign", time=pl.col("time") + 5 * DAY_SECONDS
    )
    rated = rated.with_columns(event=pl.lit("rating"), stars=pl.Series(stars))
    chosen = (
        pl.Series(rng.random(paid.height) < _RATES)
        & (rated["sign"] > 0)
        & (rated["time"] < NUM_DAYS * DAY_SECONDS)
    )
    return rated.filter(chosen).drop("sign")
