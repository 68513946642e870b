"""Segments in words and numbers: what sets each apart from everyone else, how big it is, what it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopsight.training.profiles.clusters import Int64
from shopsight.training.profiles.naming import choose_parts, distinct
from shopsight.training.profiles.scaling import Float32, Scaling, bend
from shopsight.training.profiles.segments import SegmentModel
from shopsight.training.profiles.spec import Feature, FeatureSpec

NEWCOMERS = "Hardly known customers"
_TOLD_TRAITS = 5
_ABOUT_AS_LARGE = 0.9
_SMALL_EFFECT, _LARGE_EFFECT = 0.2, 0.8  # Cohen's conventions: below the first, nobody would notice
_LACKING = 0.7  # what somebody does says more in a name than what they leave out


@dataclass(frozen=True)
class Trait:
    """One thing that sets a segment apart.

    effect: difference of the segment's mean from everyone else's, in standard deviations of all customers,
    on the transformed scale (Cohen's d). inside and outside: what is typical of the values that are present:
    their mean, for what is counted or measured their mean on the logarithmic scale; None where there is
    none. words: what its customers do, as in "they …".
    """

    feature: str
    effect: float
    inside: float | None
    outside: float | None
    words: str


@dataclass(frozen=True)
class Segment:
    """One segment as a marketer reads it; `key` keeps its meaning when the models are trained again.

    name_parts: what the name was made of, by which the next training knows whether it still fits.
    """

    key: str
    name: str
    description: str
    num_customers: int
    size_share: float
    value_share: float
    traits: tuple[Trait, ...] = field(default=())
    name_parts: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return asdict(self)


def describe(
    model: SegmentModel,
    raw: Float32,
    segment: Int64,
    keys: Sequence[str],
    earlier_parts: Mapping[str, Sequence[str]] | None = None,
) -> list[Segment]:
    """Describe every segment of raw features float32 [rows, features] with their segment int64 [rows].

    `keys` has one stable key a cluster. A segment that had a name before (`earlier_parts`: what it was made
    of, by key) keeps it while everything that it says still sets the segment apart. Customers of whom too
    little is known come last, with the key "newcomers".
    """
    spending = np.nan_to_num(raw[:, model.spec.index("monetary_total")])
    standard = _standardised(raw, model.scaling)
    known = segment < model.num_clusters
    traits = [_traits(raw, standard, segment == c, known, model.spec) for c in range(len(keys))]
    named = _named(traits, model.spec, keys, earlier_parts or {})
    told = [
        _sized(Segment(key, name, "", 0, 0.0, 0.0, told, parts), segment == number, spending)
        for number, (key, told, (name, parts)) in enumerate(zip(keys, traits, named, strict=True))
    ]
    newcomers = Segment("newcomers", NEWCOMERS, "", 0, 0.0, 0.0)
    last = _sized(newcomers, segment == model.num_clusters, spending)
    few = (
        f"{last.num_customers:,} customers, {last.size_share:.0%} of all, with fewer than {model.min_events} "
        "events: too little is known of them to say more."
    )
    return [*(_with_description(one, model.spec) for one in told), replace(last, description=few)]


def figure(value: float | None, feature: Feature, currency: str | None) -> str:
    """Write a raw value of a feature as people read it; its label says what it counts."""
    if value is None:
        return "nothing"
    match feature.unit:
        case "share":
            return f"{value:.0%}"
        case "percentile":
            return f"{value * 100:.0f} of 100"
        case "money":
            return f"{value:,.{0 if value >= 100 else 2}f} {currency or ''}".rstrip()
        case "days":
            return f"{value:,.0f}"
        case _:
            return f"{value:,.{0 if value >= 10 else 1}f}"


def _standardised(raw: Float32, scaling: Scaling) -> Float32:
    filled = np.where(np.isnan(raw), scaling.fill, bend(raw, scaling))
    return np.asarray((filled - scaling.centre) / scaling.scale * (scaling.weight > 0), dtype=np.float32)


def _traits(
    raw: Float32, standard: Float32, inside: NDArray[np.bool_], known: NDArray[np.bool_], spec: FeatureSpec
) -> tuple[Trait, ...]:
    """Return what stands out, the largest effect first, one trait a topic."""
    outside = known & ~inside
    if not inside.any() or not outside.any():
        return ()
    effect = standard[inside].mean(axis=0) - standard[outside].mean(axis=0)
    topics: dict[str, list[Trait]] = {}
    for index, feature in enumerate(spec.features):
        here, there = (_typical(raw[rows, index], feature) for rows in (inside, outside))
        # Imputed values can turn an effect against the figures that would be told with it.
        told = here is not None and there is not None and (here - there) * effect[index] > 0
        if abs(effect[index]) >= _SMALL_EFFECT and told:
            words = feature.high if effect[index] > 0 else feature.low
            trait = Trait(feature.name, round(float(effect[index]), 3), here, there, words)
            topics.setdefault(feature.topic, []).append(trait)
    chosen = [_foremost(traits) for traits in topics.values()]
    return tuple(sorted(chosen, key=lambda trait: -abs(trait.effect)))


def _foremost(traits: Sequence[Trait]) -> Trait:
    """Of one topic, the first whose effect is about the largest: plain features stand before derived ones."""
    largest = max(abs(trait.effect) for trait in traits)
    return next(trait for trait in traits if abs(trait.effect) >= _ABOUT_AS_LARGE * largest)


def _named(
    traits: Sequence[Sequence[Trait]],
    spec: FeatureSpec,
    keys: Sequence[str],
    earlier_parts: Mapping[str, Sequence[str]],
) -> list[tuple[str, tuple[str, ...]]]:
    named: list[tuple[str, tuple[str, ...]]] = []
    for key, own in zip(keys, traits, strict=True):
        taken = {name for name, _ in named} | {NEWCOMERS}
        telling = _telling(own, spec)
        kept = tuple(earlier_parts.get(key, ()))
        fits = bool(kept) and set(kept) <= {part for part, _ in telling} and distinct(kept, ()) not in taken
        parts = kept if fits else choose_parts(telling, taken)
        named.append((distinct(parts, taken), parts))
    return named


def _telling(traits: Sequence[Trait], spec: FeatureSpec) -> list[tuple[str, float]]:
    """Return what traits give to a name with how much each weighs, the heaviest first."""
    found = []
    for trait in traits:
        feature = spec.features[spec.index(trait.feature)]
        part = feature.name_high if trait.effect > 0 else feature.name_low
        if part:
            found.append((part, abs(trait.effect) * (1.0 if trait.effect > 0 else _LACKING)))
    return sorted(found, key=lambda pair: -pair[1])


def _sized(segment: Segment, inside: NDArray[np.bool_], spending: Float32) -> Segment:
    return replace(
        segment,
        num_customers=int(inside.sum()),
        size_share=float(inside.mean()) if len(inside) else 0.0,
        value_share=float(spending[inside].sum()) / max(float(spending.sum()), 1e-9),
        traits=segment.traits[:_TOLD_TRAITS],
    )


def _with_description(segment: Segment, spec: FeatureSpec) -> Segment:
    worth = f", with {segment.value_share:.0%} of the spending" if segment.value_share else ""
    sentences = [f"{segment.num_customers:,} customers, {segment.size_share:.0%} of all{worth}."]
    striking = [t for t in segment.traits if abs(t.effect) >= _LARGE_EFFECT]
    others = [t for t in segment.traits if abs(t.effect) < _LARGE_EFFECT]
    if striking:
        sentences.append(f"What strikes most: they {_listed(striking, spec)}.")
    if others:
        sentences.append(f"They {'also ' if striking else ''}{_listed(others, spec)}.")
    if not segment.traits:
        sentences.append("Nothing sets them apart from everyone else.")
    return replace(segment, description=" ".join(sentences))


def _listed(traits: Sequence[Trait], spec: FeatureSpec) -> str:
    told = []
    for trait in traits:
        feature = spec.features[spec.index(trait.feature)]
        inside, outside = (figure(v, feature, spec.currency) for v in (trait.inside, trait.outside))
        told.append(f"{trait.words} ({feature.label}: {inside}, others {outside})")
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"


def _typical(values: Float32, feature: Feature) -> float | None:
    present = values[np.isfinite(values)].astype(np.float64)
    if not len(present):
        return None
    if feature.transform == "log1p":
        return float(np.expm1(np.log1p(np.maximum(present, 0.0)).mean()))
    return float(present.mean())
