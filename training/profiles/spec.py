"""What is measured of a customer: one typed specification, fitted once and carried with the model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Transform = Literal["identity", "log1p", "share"]
Unit = Literal["days", "count", "mean", "money", "share", "percentile", "stars", "minutes"]

OTHER = "(other)"  # no channel or category is called this
# Features of how much somebody does, against those of what and how; value models answer the first.
VOLUME_GROUPS = frozenset({"purchases", "activity", "tenure", "sessions", "opinion"})
TASTE_GROUPS = frozenset({"taste", "channel"})
TIME_GROUPS = frozenset({"time"})
DAYPARTS = (
    ("night", "at night (0-4 h)"),
    ("early", "early in the morning (4-8 h)"),
    ("morning", "in the morning (8-12 h)"),
    ("midday", "at midday (12-16 h)"),
    ("afternoon", "in the late afternoon (16-20 h)"),
    ("evening", "in the evening (20-24 h)"),
)


@dataclass(frozen=True)
class Feature:
    """One number measured of every customer; NaN where a customer gives nothing to measure.

    group: what it tells about, the same for features that tell much the same. transform: what the served
    graph does to the raw value first. support: the feature that counts what a share is a share of.
    label: what it measures; high and low: how a marketer would say that somebody has much or little of it.
    """

    name: str
    group: str
    transform: Transform
    unit: Unit
    label: str
    high: str
    low: str
    support: str = ""


@dataclass(frozen=True)
class FeatureSpec:
    """The features of one shop, in the order of the served FEATURE tensor, and the choices fitted to it."""

    features: tuple[Feature, ...]
    channels: tuple[str, ...]
    categories: tuple[str, ...]
    currency: str | None
    half_life_days: float

    @property
    def names(self) -> list[str]:
        """The features' names in order."""
        return [feature.name for feature in self.features]

    def index(self, name: str) -> int:
        """Return the position of a feature."""
        return self.names.index(name)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready data that `from_dict` reads."""
        return asdict(self)

    @staticmethod
    def from_dict(raw: dict[str, Any]) -> FeatureSpec:
        """Read what `as_dict` wrote."""
        return FeatureSpec(
            features=tuple(Feature(**feature) for feature in raw["features"]),
            channels=tuple(raw["channels"]),
            categories=tuple(raw["categories"]),
            currency=raw["currency"],
            half_life_days=raw["half_life_days"],
        )


def shop_features(channels: tuple[str, ...], categories: tuple[str, ...]) -> tuple[Feature, ...]:
    """Return the features of a shop with these channels and categories, in served order."""
    features = [
        _days("recency_days", "purchases", "days since last purchase", "bought long ago", "bought lately"),
        _count("frequency", "purchases", "orders", "orders often", "orders rarely"),
        _money("monetary_mean", "money spent per order", "spends much per order", "spends little per order"),
        _money("monetary_total", "money spent", "spends much", "spends little"),
        _count("recent_purchases", "purchases", "recent purchases", "buys much lately", "buys little lately"),
        _count("num_purchases", "purchases", "lines bought", "buys many things", "buys few things"),
        _mean("basket_size", "purchases", "lines per order", "fills big baskets", "buys single items"),
        _days("tenure_days", "tenure", "days since first seen", "an old customer", "a new customer"),
        _days("inactive_days", "activity", "days since last seen", "not seen for long", "seen lately"),
        _count("num_events", "activity", "events", "very active", "seldom active"),
        _count("num_views", "activity", "views", "looks at a lot", "looks at little"),
        _count("recent_views", "activity", "recent views", "browses a lot lately", "browses little lately"),
        _count("num_sessions", "activity", "sessions", "visits often", "visits rarely"),
        _mean("session_events", "sessions", "events per session", "long sessions", "short sessions"),
        Feature("session_minutes", "sessions", "log1p", "minutes", "minutes per session",
                "spends time in a visit", "short visits"),
        _share("cart_rate", "conversion", "num_views", "carts per view", "puts much into the cart",
               "seldom puts anything into the cart"),
        _share("purchase_rate", "conversion", "num_views", "purchases per view", "buys what it looks at",
               "looks without buying"),
        _share("return_rate", "returns", "num_purchases", "lines sent back", "returns much", "keeps things"),
        _share("discount_share", "price", "num_purchases", "lines bought at a discount", "buys at a discount",
               "pays the full price"),
        _share("price_percentile", "price", "num_purchases", "price level of purchases in their category",
               "buys the expensive ones", "buys the cheap ones", unit="percentile"),
        _share("viewed_price_percentile", "price", "num_views", "price level of views in their category",
               "looks at the expensive ones", "looks at the cheap ones", unit="percentile"),
        Feature("rating_mean", "opinion", "identity", "stars", "stars given", "rates well", "rates badly"),
        _count("num_messages", "opinion", "messages", "writes often", "seldom writes"),
        _share("weekend_share", "time", "num_events", "activity at weekends", "active at weekends",
               "active on weekdays"),
    ]  # fmt: skip
    features += [
        _share(
            f"hour_share.{part}", "time", "num_events", f"activity {words}", f"active {words}", f"not {words}"
        )
        for part, words in DAYPARTS
    ]
    features += [
        _share(f"channel_share.{name}", "channel", "num_events", f"activity in {name}", f"uses {name}",
               f"avoids {name}")
        for name in (*channels, OTHER)
    ]  # fmt: skip
    for name in (*categories, OTHER):
        features.append(
            _share(f"spend_share.{name}", "taste", "num_purchases", f"spend on {name}", f"buys {name}",
                   f"buys no {name}")
        )  # fmt: skip
        features.append(
            _share(f"view_share.{name}", "taste", "num_views", f"views of {name}", f"looks at {name}",
                   f"does not look at {name}")
        )  # fmt: skip
    return tuple(features)


def _days(name: str, group: str, label: str, high: str, low: str) -> Feature:
    return Feature(name, group, "log1p", "days", label, high, low)


def _count(name: str, group: str, label: str, high: str, low: str) -> Feature:
    return Feature(name, group, "log1p", "count", label, high, low)


def _mean(name: str, group: str, label: str, high: str, low: str) -> Feature:
    return Feature(name, group, "log1p", "mean", label, high, low)


def _money(name: str, label: str, high: str, low: str) -> Feature:
    return Feature(name, "purchases", "log1p", "money", label, high, low)


def _share(
    name: str, group: str, support: str, label: str, high: str, low: str, unit: Unit = "share"
) -> Feature:
    return Feature(name, group, "share", unit, label, high, low, support)
