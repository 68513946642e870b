"""What is measured of a customer: one typed specification, fitted once and carried with the model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Transform = Literal["identity", "log1p", "share"]
Unit = Literal["days", "count", "number", "money", "share", "percentile"]

OTHER = "(other)"  # no channel or category is called this


@dataclass(frozen=True)
class Feature:
    """One number measured of every customer; NaN where a customer gives nothing to measure.

    group: what it tells about, which decides how much it weighs. topic: features of one topic tell much the
    same, so that a description names one of them. transform: what the served graph does to the raw value
    first. support: the feature that counts what a share is a share of.
    label: what it measures, with its unit; high and low: what customers with much or little of it do, as in
    "they …"; name_high and name_low: what that gives to a segment's name, as "slot:words" (see naming.py).
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

    intents: those that have a share of their own; none where no language model had been trained. timezone:
    whose hours and weekdays are counted, an IANA name.
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
            intents=tuple(raw["intents"]),
            currency=raw["currency"],
            half_lives_days=tuple(raw["half_lives_days"]),
            timezone=raw["timezone"],
        )


def recent(prefix: str, half_life_days: float) -> str:
    """Return the name of a recency-weighted count: `recent_views.30d`."""
    return f"{prefix}.{half_life_days:g}d"
