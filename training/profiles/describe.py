"""Describe segments in words and numbers: what distinguishes each one, its size and its share of spending."""

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
_MAX_TRAITS = 5
_ABOUT_AS_LARGE = 0.9
_SMALL_EFFECT, _LARGE_EFFECT = 0.2, 0.8  # Cohen's conventions for small and large effects
_LACKING = 0.7  # weight in a name of what customers do little of, relative to what they do much of


@dataclass(frozen=True)
class Trait:
    """One feature that distinguishes a segment.

    effect: difference of the segment's mean from that of other customers, in standard deviations of all
    customers, on the transformed scale (Cohen's d). inside and outside: typical values in the segment and
    outside of it, the mean of the values present, on the logarithmic scale for counts and amounts; None if
    there is no value. words: what the customers do, as in "they order often".
    """

    feature: str
    effect: float
    inside: float | None
    outside: float | None
    words: str


@dataclass(frozen=True)
class Segment:
    """One segment and its description; `key` keeps its meaning when the models are trained again.

    name_parts: the parts of the name, with which the next training checks whether the name still fits.
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
    """Return the description of every segment.

    raw: features float32 [rows, features]; segment: int64 [rows], the segment of each row.

    keys: one stable key per cluster. earlier_parts: by key, the parts of the name that a segment had before;
    it keeps this name as long as every part still distinguishes it. The last segment is that of customers of
    whom too little is known, with the key "newcomers".
    """
    spending = np.nan_to_num(raw[:, model.spec.index("monetary_total")])
    standard = _standardised(raw, model.scaling)
    known = segment < model.num_clusters
    traits = [_traits(raw, standard, segment == c, known, model.spec) for c in range(len(keys))]
    named = _named(traits, model.spec, keys, earlier_parts or {})
    described = [
        _sized(Segment(key, name, "", 0, 0.0, 0.0, own, parts), segment == number, spending)
        for number, (key, own, (name, parts)) in enumerate(zip(keys, traits, named, strict=True))
    ]
    newcomers = Segment("newcomers", NEWCOMERS, "", 0, 0.0, 0.0)
    last = _sized(newcomers, segment == model.num_clusters, spending)
    few = (
        f"{last.num_customers:,} customers, {last.size_share:.0%} of all, with fewer than {model.min_events} "
        "events: too little is known of them to say more."
    )
    return [*(_with_description(one, model.spec) for one in described), replace(last, description=few)]


def figure(value: float | None, feature: Feature, currency: str | None) -> str:
    """Return a raw value of a feature as text; the label of the feature gives its unit."""
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
    """Return the traits of a segment by descending effect, one per topic."""
    outside = known & ~inside
    if not inside.any() or not outside.any():
        return ()
    effect = standard[inside].mean(axis=0) - standard[outside].mean(axis=0)
    topics: dict[str, list[Trait]] = {}
    for index, feature in enumerate(spec.features):
        here, there = (_typical(raw[rows, index], feature) for rows in (inside, outside))
        # Imputed values can give an effect the opposite sign of the difference of the typical values.
        agrees = here is not None and there is not None and (here - there) * effect[index] > 0
        if abs(effect[index]) >= _SMALL_EFFECT and agrees:
            words = feature.high if effect[index] > 0 else feature.low
            trait = Trait(feature.name, round(float(effect[index]), 3), here, there, words)
            topics.setdefault(feature.topic, []).append(trait)
    chosen = [_foremost(traits) for traits in topics.values()]
    return tuple(sorted(chosen, key=lambda trait: -abs(trait.effect)))


def _foremost(traits: Sequence[Trait]) -> Trait:
    """Return the first trait of about the largest effect; plain features come before derived ones."""
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
        candidates = _name_parts(own, spec)
        kept = tuple(earlier_parts.get(key, ()))
        offered = {part for part, _ in candidates}
        fits = bool(kept) and set(kept) <= offered and distinct(kept, ()) not in taken
        parts = kept if fits else choose_parts(candidates, taken)
        named.append((distinct(parts, taken), parts))
    return named


def _name_parts(traits: Sequence[Trait], spec: FeatureSpec) -> list[tuple[str, float]]:
    """Return the parts of a name that traits offer, with their weights, in descending order of weight."""
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
        traits=segment.traits[:_MAX_TRAITS],
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
    phrases = []
    for trait in traits:
        feature = spec.features[spec.index(trait.feature)]
        inside, outside = (figure(v, feature, spec.currency) for v in (trait.inside, trait.outside))
        phrases.append(f"{trait.words} ({feature.label}: {inside}, others {outside})")
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _typical(values: Float32, feature: Feature) -> float | None:
    present = values[np.isfinite(values)].astype(np.float64)
    if not len(present):
        return None
    if feature.transform == "log1p":
        return float(np.expm1(np.log1p(np.maximum(present, 0.0)).mean()))
    return float(present.mean())
