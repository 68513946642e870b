"""Segments of similar customers, by principal components and k-means on scaled features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopsight.serving.progress import Progress
from shopsight.training.profiles.choosing import choose_number
from shopsight.training.profiles.clusters import Int64, distances, kmeans, principal_components
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.scaling import Float32, Scaling, fit_scaling
from shopsight.training.profiles.spec import FeatureSpec

_ENOUGH = 100  # well-known customers for each segment that may be formed


class TooFewCustomers(ValueError):  # noqa: N818 - reads as what happened
    """Too few customers with enough events, or too few that differ, to form segments."""


class NotFinite(ValueError):  # noqa: N818 - reads as what happened
    """A feature is infinite for some customers; no feature may be."""


@dataclass(frozen=True)
class SegmentModel:
    """Assigns rows of raw features to segments; the exported graph computes the same.

    components [c, features] and offset [c] project scaled features; centres [k, c] are the segments'.
    Customers with fewer than `min_events` events get segment k, the newcomers.
    """

    spec: FeatureSpec
    scaling: Scaling
    components: Float32
    offset: Float32
    centres: Float32
    min_events: int

    @property
    def num_clusters(self) -> int:
        """The number of segments with a centre; newcomers are one more segment."""
        return len(self.centres)

    def project(self, raw: Float32) -> Float32:
        """Return principal components, float32 [rows, c], of raw features float32 [rows, features]."""
        projected: Float32 = self.scaling.transform(raw) @ self.components.T - self.offset
        return projected

    def assign(self, raw: Float32) -> tuple[Int64, Float32]:
        """Return segment int64 [rows] and the distance to each centre float32 [rows, k]."""
        distance = distances(self.project(raw), self.centres)
        nearest = distance.argmin(axis=1)
        return np.where(is_newcomer(raw, self.spec, self.min_events), self.num_clusters, nearest), distance

    def reordered(self, order: Int64) -> SegmentModel:
        """Return the same model with segment `order[i]` in place i."""
        return SegmentModel(
            self.spec, self.scaling, self.components, self.offset, self.centres[order], self.min_events
        )


def fit_segments(
    raw: Float32, spec: FeatureSpec, config: ProfilesConfig, progress: Progress
) -> tuple[SegmentModel, list[dict[str, Any]]]:
    """Fit segments on raw features float32 [customers, features], NaN where missing.

    Returns the model and the rows of choosing.choose_number. A feature that does not vary gets the weight 0.
    Raises TooFewCustomers when fewer than twice `min_segments` customers have
    `min_events` events, or fewer than `min_segments` of them differ; NotFinite names an infinite feature.
    """
    _refuse_infinite(raw, spec)
    known = _fitted_rows(raw, spec, config)
    wanted = config.num_segments or config.min_segments
    if len(known) < 2 * wanted:
        raise TooFewCustomers(
            f"{len(known)} customers have at least {config.min_events} events, {wanted} segments need "
            f"{2 * wanted}; ingest more events, or lower profiles.min_events or the number of segments"
        )
    scaling = fit_scaling(known, spec, prior_events=config.prior_events, volume_weight=config.volume_weight)
    scaled = scaling.transform(known)
    num_distinct = len(np.unique(scaled, axis=0))
    if num_distinct < wanted:
        raise TooFewCustomers(
            f"the {len(known)} customers with at least {config.min_events} events behave in {num_distinct} "
            f"different ways, {wanted} segments need {wanted}; ingest events that tell customers apart"
        )
    components, offset = principal_components(scaled, config.variance)
    points = scaled @ components.T - offset
    rng = np.random.default_rng(config.seed)
    sample = points[rng.permutation(len(points))[: config.sample_size]]
    tried = choose_number(sample, config, progress)
    num_segments = next(row["num_segments"] for row in tried if row["chosen"])
    centres = kmeans(points, num_segments, config.seed)
    return SegmentModel(spec, scaling, components, offset, centres, config.min_events), tried


def is_newcomer(raw: Float32, spec: FeatureSpec, min_events: int) -> NDArray[np.bool_]:
    """Return which rows have fewer than `min_events` events, or a missing number of them, bool [rows]."""
    num_events = raw[:, spec.index("num_events")]
    return np.asarray(~(num_events >= min_events))


def _fitted_rows(raw: Float32, spec: FeatureSpec, config: ProfilesConfig) -> Float32:
    """Return the rows to fit segments to: well-known customers, or all but newcomers if those are few."""
    well_known = raw[~is_newcomer(raw, spec, max(config.min_events, config.well_known_events))]
    if len(well_known) >= _ENOUGH * config.max_segments:
        return well_known
    return raw[~is_newcomer(raw, spec, config.min_events)]


def _refuse_infinite(raw: Float32, spec: FeatureSpec) -> None:
    infinite = np.isinf(raw).sum(axis=0)
    if infinite.any():
        worst = int(infinite.argmax())
        raise NotFinite(
            f"feature {spec.names[worst]} is infinite for {infinite[worst]} customers; "
            "give NaN where nothing was measured"
        )
