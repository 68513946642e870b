"""Simulated behaviour: sessions with item views, carts and purchases, store visits, returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.training.data.shop.catalogue import Catalogue
from shopsight.training.data.shop.personas import Traits
from shopsight.training.data.shop.planted import fails_in_app, with_pair
from shopsight.training.data.shop.preferences import Chooser, Wishes
from shopsight.training.data.shop.seasons import Calendar
from shopsight.training.data.shop.spec import DAY_SECONDS, EXPERIMENT_DAYS, FUTURE_DAYS, NUM_DAYS, ShopSpec

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
    checkout: Bools  # whether a cart is paid
    pays: Array  # the probability of that without the treatment


@dataclass(frozen=True)
class Views:
    """Item pages seen, ordered by session and time; arrays [num_views]."""

    session: Ints
    item: Ints
    time: Ints
    carted: Bools
    bought: Bools


@dataclass(frozen=True)
class Visits:
    """Visits that end in a purchase without a trace before it, ordered by person; arrays [num_visits]."""

    person: Ints
    channel: Ints
    start: Ints
    num_lines: Ints


@dataclass(frozen=True)
class Year:
    """A year of one chunk of people, and the purchases of the weeks after it."""

    sessions: Sessions
    views: Views
    lines: pl.DataFrame  # bought: person, channel, order, line, item, time, quantity, price, discount, sign
    future: pl.DataFrame  # person, channel, item, time


def draw_year(
    traits: Traits,
    arm: Ints,
    catalogue: Catalogue,
    chooser: Chooser,
    spec: ShopSpec,
    rng: np.random.Generator,
) -> Year:
    """Draw what the people of `traits` do; orders are numbered by session first, then by store visit.

    Items of the future come from the propensities alone, so that the best list is the one that the planted
    factors give.
    """
    sessions = _draw_sessions(traits, arm, spec, rng)
    store = _draw_store_visits(traits, spec, rng)
    future = _draw_future_visits(traits, rng)
    chosen = chooser.choose([_browse(sessions), _fill(store, 0.35), _fill(future, 0.0)], rng)
    views = _see(sessions, chosen[0], traits, catalogue.num_items, rng)
    online = _paid(sessions, views)
    tills = _bought(store, chosen[1]).with_columns(order=pl.col("order") + sessions.start.size)
    bought = pl.concat([online, tills])
    if spec.behaviour:
        bought = with_pair(bought, catalogue, rng)
    lines = _priced(bought, traits, catalogue, rng)
    return Year(sessions, views, lines, _bought(future, chosen[2]).drop("order"))


def experiment_time(start: Ints) -> Bools:
    """Return whether seconds after the first midnight lie in the experiment's weeks."""
    return (start >= (NUM_DAYS - EXPERIMENT_DAYS) * DAY_SECONDS) & (start < NUM_DAYS * DAY_SECONDS)


def draw_returns(lines: pl.DataFrame, traits: Traits, rng: np.random.Generator) -> pl.DataFrame:
    """Return the lines that are sent back before the year ends, with the time of the return and sign -1."""
    back = rng.random(lines.height) < traits.return_share[lines["person"].to_numpy()]
    delay = (rng.gamma(3.0, 3.0, lines.height) + 1.5) * DAY_SECONDS
    returned = lines.with_columns(time=pl.col("time") + pl.Series(delay.astype(np.int64)), sign=pl.lit(-1))
    return returned.filter(pl.Series(back) & (pl.col("time") < NUM_DAYS * DAY_SECONDS))


def _draw_sessions(traits: Traits, arm: Ints, spec: ShopSpec, rng: np.random.Generator) -> Sessions:
    calendar = Calendar(traits, 0, NUM_DAYS)
    online = traits.has_channel[:, :2].any(axis=1)
    # People of the stores look at the web shop too now and then, without an account.
    rate = (
        np.where(online, traits.online_sessions, 1.5) * calendar.active_years * spec.events_per_customer / 42
    )
    person = np.repeat(np.arange(rate.size), rng.poisson(rate))
    start = calendar.draw_days(person, rng) * DAY_SECONDS + calendar.draw_seconds(person, rng)
    order = np.lexsort((start, person))
    person, start = person[order], start[order]
    has_web, has_app = traits.has_channel[person, WEB], traits.has_channel[person, APP]
    by_app = has_app & (~has_web | (rng.random(person.size) < traits.app_share[person]))
    anonymous = ~by_app & (~has_web | (rng.random(person.size) < 0.12))
    pays = np.minimum(traits.checkout_share[person], 0.62)
    treated = experiment_time(start) & ~by_app & (arm[person] == 1)
    checkout = ~anonymous & (rng.random(person.size) < pays * np.where(treated, spec.effect, 1.0))
    if spec.behaviour:
        checkout = fails_in_app(checkout, by_app, start, rng)
    num_views = 1 + rng.poisson(np.maximum(traits.views_per_session[person] - 1, 0.3))
    return Sessions(person, np.where(by_app, APP, WEB), start, anonymous, num_views, checkout, pays)


def _draw_store_visits(traits: Traits, spec: ShopSpec, rng: np.random.Generator) -> Visits:
    calendar = Calendar(traits, 0, NUM_DAYS)
    rate = np.where(traits.has_channel[:, STORE], traits.store_baskets, 0.0) * calendar.active_years
    person = np.repeat(np.arange(rate.size), rng.poisson(rate * spec.events_per_customer / 50))
    start = calendar.draw_days(person, rng) * DAY_SECONDS + calendar.draw_seconds(person, rng, _OPEN)
    return Visits(person, np.full(person.size, STORE), start, 1 + rng.poisson(1.2, person.size))


def _draw_future_visits(traits: Traits, rng: np.random.Generator) -> Visits:
    calendar = Calendar(traits, NUM_DAYS, NUM_DAYS + FUTURE_DAYS)
    has, baskets = traits.has_channel, traits.store_baskets
    online = np.where(has[:, :2].any(axis=1), traits.online_sessions * 0.6, 0.0)
    rate = (online + np.where(has[:, STORE], baskets, 0.0)) * calendar.active_years
    person = np.repeat(np.arange(rate.size), rng.poisson(rate))
    weight = np.stack([1 - traits.app_share, traits.app_share, 0.2 * baskets], axis=1) * has
    edges = np.cumsum(weight / weight.sum(axis=1, keepdims=True), axis=1)[person]
    channel = (rng.random(person.size)[:, None] > edges).sum(axis=1).clip(0, 2)
    start = calendar.draw_days(person, rng) * DAY_SECONDS + calendar.draw_seconds(person, rng, _OPEN)
    return Visits(person, channel, start, 1 + rng.poisson(0.8, person.size))


def _browse(sessions: Sessions) -> Wishes:
    session = np.repeat(np.arange(sessions.start.size), sessions.num_views)
    return _wishes(session, sessions.person, sessions.start, 0.55)


def _fill(visits: Visits, focus: float) -> Wishes:
    return _wishes(
        np.repeat(np.arange(visits.start.size), visits.num_lines), visits.person, visits.start, focus
    )


def _wishes(visit: Ints, person: Ints, start: Ints, focus: float) -> Wishes:
    first = np.searchsorted(visit, visit) == np.arange(visit.size)
    return Wishes(person[visit], start[visit] / DAY_SECONDS, np.where(first, 0.0, focus))


def _see(sessions: Sessions, item: Ints, traits: Traits, num_items: int, rng: np.random.Generator) -> Views:
    session = np.repeat(np.arange(sessions.start.size), sessions.num_views)
    gap = np.maximum(2, rng.lognormal(3.3, 0.8, session.size)).astype(np.int64)
    elapsed = np.cumsum(gap) - gap
    time = sessions.start[session] + elapsed - elapsed[np.searchsorted(session, session)]
    found = item >= 0
    session, item, time = session[found], item[found], time[found]
    new = np.zeros(item.size, dtype=bool)
    new[np.unique(session * num_items + item, return_index=True)[1]] = True
    person = sessions.person[session]
    carts = np.where(sessions.anonymous[session], 0.04, traits.cart_share[person])
    carted = new & (rng.random(item.size) < carts)
    return Views(session, item, time, carted, carted & sessions.checkout[session])


def _paid(sessions: Sessions, views: Views) -> pl.DataFrame:
    last = np.zeros(sessions.start.size, dtype=np.int64)
    np.maximum.at(last, views.session, views.time)
    order = views.session[views.bought]
    columns = {"person": sessions.person[order], "channel": sessions.channel[order], "order": order}
    return pl.DataFrame({**columns, "item": views.item[views.bought], "time": last[order] + 45})


def _bought(visits: Visits, item: Ints) -> pl.DataFrame:
    order = np.repeat(np.arange(visits.start.size), visits.num_lines)
    columns = {"person": visits.person[order], "channel": visits.channel[order], "order": order}
    frame = pl.DataFrame({**columns, "item": item, "time": visits.start[order]})
    return frame.filter(pl.col("item") >= 0).unique(["order", "item"], keep="first", maintain_order=True)


def _priced(
    lines: pl.DataFrame, traits: Traits, catalogue: Catalogue, rng: np.random.Generator
) -> pl.DataFrame:
    item, order, person = (lines[c].to_numpy() for c in ("item", "order", "person"))
    price = catalogue.price[item]
    quantity = 1 + rng.binomial(3, 0.35 * np.clip(1.1 - np.log(price) / 4, 0, 0.8))
    promoted = rng.random(item.size) < traits.discount_share[person]
    share = np.where(promoted, rng.choice([0.1, 0.15, 0.2, 0.3, 0.4], item.size), 0.0)
    return lines.with_columns(
        line=pl.Series(np.arange(order.size) - np.searchsorted(order, order) + 1),
        quantity=pl.Series(quantity),
        price=pl.Series(price),
        discount=pl.Series(np.round(price * quantity * share, 2)),
        sign=pl.lit(1),
    )
