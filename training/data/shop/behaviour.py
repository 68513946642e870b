"""What people do: sessions of views, carts and purchases, store baskets, returns, and the weeks after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training.data.shop.catalogue import Catalogue
from training.data.shop.personas import PERSONAS, Traits
from training.data.shop.preferences import Chooser
from training.data.shop.seasons import Calendar
from training.data.shop.spec import DAY_SECONDS, EXPERIMENT_DAYS, FUTURE_DAYS, NUM_DAYS, ShopSpec

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Array = NDArray[np.float64]

WEB, APP, STORE = 0, 1, 2
_OPEN = (8.0, 18.5)  # store hours, UTC


@dataclass(frozen=True)
class Sessions:
    """Visits of the web shop or the app, ordered by person; arrays [num_sessions]."""

    person: Ints
    channel: Ints
    start: Ints  # seconds after the first day's midnight
    anonymous: Bools  # the visitor did not log in
    num_views: Ints
    checkout: Bools  # whether carts are paid
    pays: Array  # the probability of that without the treatment


@dataclass(frozen=True)
class Views:
    """Item pages seen, ordered by session; arrays [num_views]."""

    session: Ints
    item: Ints
    time: Ints
    carted: Bools
    bought: Bools


def draw_sessions(
    traits: Traits, calendar: Calendar, arm: Ints, spec: ShopSpec, rng: np.random.Generator
) -> Sessions:
    """Draw the online sessions of a year; the treatment arm pays more often in the experiment's weeks."""
    per_session = np.mean([p.views_per_session for p in PERSONAS]) * 1.3
    scale = spec.events_per_customer * 0.62 / per_session / np.mean([p.online_sessions for p in PERSONAS])
    online = traits.has_channel[:, :2].any(axis=1)
    rate = np.where(online, traits.online_sessions, 0.25) * calendar.active_years * scale
    person = np.repeat(np.arange(rate.size), rng.poisson(rate))
    start = calendar.draw_days(person, rng) * DAY_SECONDS + calendar.draw_seconds(person, rng)
    order = np.lexsort((start, person))
    person, start = person[order], start[order]
    has_web, has_app = traits.has_channel[person, WEB], traits.has_channel[person, APP]
    by_app = has_app & (~has_web | (rng.random(person.size) < traits.app_share[person]))
    anonymous = ~by_app & (~has_web | (rng.random(person.size) < 0.12))
    pays = np.minimum(traits.checkout_share[person], 0.62)
    in_test = experiment_time(start) & ~by_app & (arm[person] == 1)
    checkout = ~anonymous & (rng.random(person.size) < pays * np.where(in_test, spec.effect, 1.0))
    num_views = 1 + rng.poisson(np.maximum(traits.views_per_session[person] - 1, 0.3))
    return Sessions(person, np.where(by_app, APP, WEB), start, anonymous, num_views, checkout, pays)


def experiment_time(start: Ints) -> Bools:
    """Return whether seconds after the first midnight lie in the experiment's weeks."""
    return (start >= (NUM_DAYS - EXPERIMENT_DAYS) * DAY_SECONDS) & (start < NUM_DAYS * DAY_SECONDS)


def draw_views(sessions: Sessions, traits: Traits, chooser: Chooser, rng: np.random.Generator) -> Views:
    """Draw the item pages of each session, what of them goes into the cart, and what is bought at its end."""
    session = np.repeat(np.arange(sessions.start.size), sessions.num_views)
    person = sessions.person[session]
    day = sessions.start[session] / DAY_SECONDS
    first = np.searchsorted(session, session) == np.arange(session.size)
    item = chooser.choose(person, day, np.where(first, 0.0, 0.55), rng)
    found = item >= 0
    gap = np.maximum(2, rng.lognormal(3.3, 0.8, session.size)).astype(np.int64)
    elapsed = np.cumsum(gap) - gap
    time = sessions.start[session] + elapsed - elapsed[np.searchsorted(session, session)]
    session, item, time = session[found], item[found], time[found]
    _, seen_first = np.unique(session * chooser.num_items + item, return_index=True)
    new = np.zeros(item.size, dtype=bool)
    new[seen_first] = True
    carted = (
        new
        & ~sessions.anonymous[session]
        & (rng.random(item.size) < traits.cart_share[sessions.person[session]])
    )
    carted |= new & sessions.anonymous[session] & (rng.random(item.size) < 0.04)
    bought = carted & sessions.checkout[session]
    return Views(session, item, time, carted, bought)


def draw_baskets(
    traits: Traits, calendar: Calendar, chooser: Chooser, spec: ShopSpec, rng: np.random.Generator
) -> pl.DataFrame:
    """Draw what is bought at the tills: a row a line with person, order (0 … in this frame), item, time."""
    rate = np.where(traits.has_channel[:, STORE], traits.store_baskets, 0.0)
    person = np.repeat(
        np.arange(rate.size), rng.poisson(rate * calendar.active_years * spec.events_per_customer / 50)
    )
    start = calendar.draw_days(person, rng) * DAY_SECONDS + calendar.draw_seconds(person, rng, _OPEN)
    lines = 1 + rng.poisson(1.6, person.size)
    order = np.repeat(np.arange(person.size), lines)
    item = chooser.choose(person[order], start[order] / DAY_SECONDS, np.full(order.size, 0.3), rng)
    frame = pl.DataFrame({"person": person[order], "order": order, "item": item, "time": start[order]})
    return frame.filter(pl.col("item") >= 0).unique(["order", "item"], keep="first", maintain_order=True)


def purchase_lines(
    person: Ints,
    order: Ints,
    item: Ints,
    time: Ints,
    traits: Traits,
    catalogue: Catalogue,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Return order lines with quantity, price and discount; lines of one order are numbered from 1."""
    price = catalogue.price[item]
    cheap = np.clip(1.1 - np.log(price) / 4, 0, 0.8)
    quantity = 1 + rng.binomial(3, 0.35 * cheap)
    promoted = rng.random(item.size) < traits.discount_share[person]
    discount = np.where(
        promoted, np.round(price * quantity * rng.choice([0.1, 0.15, 0.2, 0.3, 0.4], item.size), 2), 0.0
    )
    line = np.arange(order.size) - np.searchsorted(order, order) + 1
    columns = {"person": person, "order": order, "line": line, "item": item, "time": time}
    return pl.DataFrame({**columns, "quantity": quantity, "price": price, "discount": discount})


def draw_returns(lines: pl.DataFrame, traits: Traits, rng: np.random.Generator) -> pl.DataFrame:
    """Return the lines that are sent back before the year ends, with the time of the return."""
    back = rng.random(lines.height) < traits.return_share[lines["person"].to_numpy()]
    delay = (rng.gamma(3.0, 3.0, lines.height) + 1.5) * DAY_SECONDS
    returned = lines.with_columns(time=pl.col("time") + pl.Series(delay.astype(np.int64)))
    return returned.filter(pl.Series(back) & (pl.col("time") < NUM_DAYS * DAY_SECONDS))


def draw_future(traits: Traits, chooser: Chooser, spec: ShopSpec, rng: np.random.Generator) -> pl.DataFrame:
    """Draw the purchases of the four weeks after the raw data: person, channel, item, time.

    Items come from the propensities alone, so that the best list is the one that the planted factors give.
    """
    calendar = Calendar(traits, NUM_DAYS, NUM_DAYS + FUTURE_DAYS)
    has = traits.has_channel
    yearly = np.where(has[:, :2].any(axis=1), traits.online_sessions * 0.3, 0) + np.where(
        has[:, STORE], traits.store_baskets, 0
    )
    person = np.repeat(np.arange(yearly.size), rng.poisson(yearly * calendar.active_years * 2.2))
    day = np.sort(calendar.draw_days(person, rng)) if person.size == 0 else calendar.draw_days(person, rng)
    time = day * DAY_SECONDS + calendar.draw_seconds(person, rng)
    weight = has[person] * np.stack(
        [1 - traits.app_share[person], traits.app_share[person], 0.2 * traits.store_baskets[person]], axis=1
    )
    edges = np.cumsum(weight / weight.sum(axis=1, keepdims=True), axis=1)
    channel = (rng.random(person.size)[:, None] > edges).sum(axis=1).clip(0, 2)
    item = chooser.choose(person, time / DAY_SECONDS, np.zeros(person.size), rng)
    frame = pl.DataFrame({"person": person, "channel": channel, "item": item, "time": time})
    return frame.filter(pl.col("item") >= 0)
