"""Groups of alike customers: principal components and k-means over scaled features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopsight.training.profiles.choosing import choose_number
from shopsight.training.profiles.clusters import Int64, distances, kmeans, principal_components
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.scaling import Float32, Scaling, fit_scaling
from shopsight.training.profiles.spec import FeatureSpec

Progress = Callable[[str], None]

_ENOUGH = 100  # well-known customers for each segment that may be formed


class TooFewCustomers(ValueError):  # noqa: N818 - reads as what happened
    """Too few customers with enough events, or too few that differ, to form segments."""


class NotFinite(ValueError):  # noqa: N818 - reads as what happened
    """A feature is infinite for some customers, which no measure of ours gives."""


@dataclass(frozen=True)
class SegmentModel:
    """What assigns a raw feature row to a segment; the exported graph holds exactly this.

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
        """Segments with a centre; the newcomers come on top of them."""
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

    Returns the model and the numbers of segments tried, as choosing.choose_number gives them. A feature that
    does not vary weighs nothing. Raises TooFewCustomers when fewer than twice `min_segments` customers have
    `min_events` events, or fewer than `min_segments` of them differ; NotFinite names an infinite feature.
    """
    _refuse_infinite(raw, spec)
    known = _forming(raw, spec, config)
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
    """Tell which rows rest on too few events; a row whose number of events is missing does."""
    num_events = raw[:, spec.index("num_events")]
    return np.asarray(~(num_events >= min_events))


def _forming(raw: Float32, spec: FeatureSpec, config: ProfilesConfig) -> Float32:
    """Return the customers who form the segments: the well known ones, all but newcomers where few are."""
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
