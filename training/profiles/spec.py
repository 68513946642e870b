"""The specification of the features of a customer, fitted once and stored with the model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Transform = Literal["identity", "log1p", "share"]
Unit = Literal["days", "count", "number", "money", "share", "percentile"]

OTHER = "(other)"  # no channel or category is called this


@dataclass(frozen=True)
class Feature:
    """One number computed for every customer; NaN where it is undefined.

    group: decides the weight of the feature. topic: features of one topic are similar, so that a description
    names only one of them. transform: what the served graph applies to the raw value. support: for a share,
    the feature that counts its denominator. label: the quantity with its unit. high and low: what customers
    with a high or low value do, as in "they order often"; name_high and name_low: the parts of the name of
    their segment, as "slot:words" (see naming.py).
    """

    name: str
    group: str
    topic: str
    transform: Transform
    unit: Unit
    label: str
    high: str
    low: str
    name_high: str = ""
    name_low: str = ""
    support: str = ""


@dataclass(frozen=True)
class FeatureSpec:
    """The features of one shop, in the order of the served FEATURE tensor, and the choices fitted to it.

    intents: those with a share of their own; none if no language model was trained. timezone: IANA name of
    the time zone of hours and weekdays.
    """

    features: tuple[Feature, ...]
    channels: tuple[str, ...]
    categories: tuple[str, ...]
    intents: tuple[str, ...]
    currency: str | None
    half_lives_days: tuple[float, ...]
    timezone: str = "UTC"

    @property
    def names(self) -> list[str]:
        """The names of the features in order."""
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
            intents=tuple(raw["intents"]),
            currency=raw["currency"],
            half_lives_days=tuple(raw["half_lives_days"]),
            timezone=raw["timezone"],
        )


def recent(prefix: str, half_life_days: float) -> str:
    """Return the name of a recency-weighted count: `recent_views.30d`."""
    return f"{prefix}.{half_life_days:g}d"
