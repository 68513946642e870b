"""Segments in words and numbers: what sets each apart from everyone else, how big it is, what it is worth."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from training.profiles.scaling import Float32, Scaling, bend
from training.profiles.segments import Int64, SegmentModel
from training.profiles.spec import Feature, FeatureSpec

NEWCOMERS = "Newcomers"
_NAME_TRAITS = 2
_TOLD_TRAITS = 5
_SMALL_EFFECT = 0.2  # Cohen's convention: below it, nobody would notice


@dataclass(frozen=True)
class Trait:
    """One thing that sets a segment apart.

    effect: difference of the segment's mean from everyone else's, in standard deviations of all customers,
    on the transformed scale (Cohen's d). inside and outside: means of the raw
    values that are present, None where none is.
    """

    feature: str
    effect: float
    inside: float | None
    outside: float | None
    words: str


@dataclass(frozen=True)
class Segment:
    """One segment as a marketer reads it; `key` keeps its meaning when the models are trained again."""

    key: str
    name: str
    description: str
    num_customers: int
    size_share: float
    value_share: float
    traits: tuple[Trait, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return asdict(self)


def describe(model: SegmentModel, raw: Float32, segment: Int64, keys: list[str]) -> list[Segment]:
    """Describe every segment of raw features float32 [rows, features] with their segment int64 [rows].

    `keys` has one stable key a cluster. The newcomers come last, with the key "newcomers".
    """
    spending = np.nan_to_num(raw[:, model.spec.index("monetary_total")])
    total = max(float(spending.sum()), 1e-9)
    bent = _standardised(raw, model.scaling)
    told: list[Segment] = []
    for number, key in enumerate(keys):
        inside = segment == number
        traits = _traits(raw, bent, inside, segment < model.num_clusters, model.spec)
        told.append(
            Segment(
                key=key,
                name=_name(traits, {other.name for other in told}),
                description="",
                num_customers=int(inside.sum()),
                size_share=float(inside.mean()) if len(inside) else 0.0,
                value_share=float(spending[inside].sum()) / total,
                traits=tuple(traits[:_TOLD_TRAITS]),
            )
        )
    told = [_with_description(one, model.spec) for one in told]
    return [*told, _newcomers(model, segment, spending, total)]


def _standardised(raw: Float32, scaling: Scaling) -> Float32:
    filled = np.where(np.isnan(raw), scaling.fill, bend(raw, scaling))
    return np.asarray((filled - scaling.centre) / scaling.scale * (scaling.weight > 0), dtype=np.float32)


def _traits(
    raw: Float32, bent: Float32, inside: np.ndarray[Any, Any], known: np.ndarray[Any, Any], spec: FeatureSpec
) -> list[Trait]:
    """Return what stands out, the largest effect first, one trait a topic."""
    outside = known & ~inside
    if not inside.any() or not outside.any():
        return []
    effect = bent[inside].mean(axis=0) - bent[outside].mean(axis=0)
    traits: list[Trait] = []
    topics: set[str] = set()
    for index in np.argsort(-np.abs(effect), kind="stable"):
        feature = spec.features[index]
        topic = _topic(feature)
        if topic in topics or abs(effect[index]) < _SMALL_EFFECT:
            continue
        topics.add(topic)
        traits.append(
            Trait(
                feature=feature.name,
                effect=round(float(effect[index]), 3),
                inside=_mean(raw[inside, index]),
                outside=_mean(raw[outside, index]),
                words=feature.high if effect[index] > 0 else feature.low,
            )
        )
    return traits


def _topic(feature: Feature) -> str:
    # Spending on a category and looking at it are one topic; so are all counts of activity.
    return feature.name.partition(".")[2] or feature.group


def _name(traits: list[Trait], taken: set[str]) -> str:
    if not traits:
        return "Everyone" if "Everyone" not in taken else f"Everyone ({len(taken) + 1})"
    # What somebody does says more in a name than what they leave out.
    telling = sorted(traits, key=lambda t: -abs(t.effect) * (1.0 if t.effect > 0 else 0.5))
    for count in range(_NAME_TRAITS, len(telling) + 1):
        name = _capital(", ".join(trait.words for trait in telling[:count]))
        if name not in taken:
            return name
    name = _capital(", ".join(trait.words for trait in telling[:_NAME_TRAITS]))
    return name if name not in taken else f"{name} ({len(taken) + 1})"


def _with_description(segment: Segment, spec: FeatureSpec) -> Segment:
    told = [_sentence_part(trait, spec) for trait in segment.traits]
    numbers = (
        f"{segment.num_customers:,} customers ({segment.size_share:.0%}) "
        f"with {segment.value_share:.0%} of all spending."
    )
    apart = f" Against everyone else: {'; '.join(told)}." if told else " Nothing sets them apart."
    return Segment(**{**_shallow(segment), "description": numbers + apart})


def _newcomers(model: SegmentModel, segment: Int64, spending: Float32, total: float) -> Segment:
    inside = segment == model.num_clusters
    share = float(inside.mean()) if len(inside) else 0.0
    return Segment(
        key="newcomers",
        name=NEWCOMERS,
        description=(
            f"{int(inside.sum()):,} customers ({share:.0%}) with fewer than {model.min_events} events: "
            "too little is known of them to say more."
        ),
        num_customers=int(inside.sum()),
        size_share=share,
        value_share=float(spending[inside].sum()) / total,
    )


def _shallow(segment: Segment) -> dict[str, Any]:
    return {name: getattr(segment, name) for name in Segment.__dataclass_fields__}


def _sentence_part(trait: Trait, spec: FeatureSpec) -> str:
    feature = spec.features[spec.index(trait.feature)]
    inside, outside = (_figure(v, feature, spec.currency) for v in (trait.inside, trait.outside))
    return f"{trait.words} ({feature.label}: {inside} against {outside}, effect {trait.effect:+.1f})"


def _figure(value: float | None, feature: Feature, currency: str | None) -> str:
    if value is None:
        return "none"
    match feature.unit:
        case "share":
            return f"{value:.0%}"
        case "percentile":
            return f"{value * 100:.0f} of 100"
        case "money":
            return f"{value:,.2f} {currency or ''}".rstrip()
        case "days":
            return f"{value:,.0f} days"
        case _:
            return f"{value:,.1f}"


def _mean(values: Float32) -> float | None:
    present = values[np.isfinite(values)]
    return float(present.mean(dtype=np.float64)) if len(present) else None


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
