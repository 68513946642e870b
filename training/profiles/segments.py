"""Groups of alike customers: principal components, k-means, and how many groups the data bear out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, silhouette_score
from threadpoolctl import threadpool_limits

from kernels.backend import estimators
from training.profiles.config import ProfilesConfig
from training.profiles.scaling import Float32, Scaling, fit_scaling
from training.profiles.spec import FeatureSpec

Int64 = NDArray[np.int64]
Progress = Callable[[str], None]

_SILHOUETTE_SAMPLE = 3_000
_STABILITY_SLACK, _SILHOUETTE_SLACK = 0.05, 0.005
_ENOUGH = 100  # well-known customers for each segment that may be formed
_RESTARTS = 5
_SINGLE_THREAD_POINTS = 50_000


class TooFewCustomers(ValueError):  # noqa: N818 - reads as what happened
    """Too few customers with enough events to form segments."""


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
    """Fit segments on raw features float32 [customers, features].

    Returns the model and, for each number of segments tried, its stability, silhouette and whether it was
    chosen. Raises TooFewCustomers when fewer than twice `min_segments` customers have `min_events` events.
    """
    known = _forming(raw, spec, config)
    fewest = 2 * (config.num_segments or config.min_segments)
    if len(known) < fewest:
        raise TooFewCustomers(
            f"{len(known)} customers have at least {config.min_events} events, segments need {fewest}; "
            "ingest more events, or lower profiles.min_events or profiles.min_segments"
        )
    scaling = fit_scaling(known, spec, prior_events=config.prior_events, volume_weight=config.volume_weight)
    scaled = scaling.transform(known)
    components, offset = _principal_components(scaled, config.variance)
    points = scaled @ components.T - offset
    rng = np.random.default_rng(config.seed)
    sample = points[rng.permutation(len(points))[: config.sample_size]]
    tried = choose_number(sample, config, progress)
    num_segments = next(row["num_segments"] for row in tried if row["chosen"])
    centres = _kmeans(points, num_segments, config.seed)
    return SegmentModel(spec, scaling, components, offset, centres, config.min_events), tried


def choose_number(points: Float32, config: ProfilesConfig, progress: Progress) -> list[dict[str, Any]]:
    """Try numbers of segments and mark the one to use.

    Stability is the median adjusted Rand index between the segments of all points and those found on
    bootstrap resamples (Hennig, 2007). Of the numbers whose stability is within 0.05 of the best, and then
    whose silhouette is within 0.005 of the best, the largest is chosen: as many as the data bear out.
    """
    highest = min(config.max_segments, max(config.min_segments, len(points) // 2))
    numbers = [config.num_segments] if config.num_segments else range(config.min_segments, highest + 1)
    tried: list[dict[str, Any]] = []
    for number in numbers:
        labels = nearest(points, _kmeans(points, number, config.seed))
        agreement = _bootstrap_agreement(points, labels, number, config)
        tried.append({
            "num_segments": number,
            "stability": float(np.median(agreement)),
            "stability_min": float(np.min(agreement)),
            "silhouette": _silhouette(points, labels, config.seed),
            "chosen": False,
        })  # fmt: skip
        progress(
            f"{number} segments: stability {tried[-1]['stability']:.2f}, "
            f"silhouette {tried[-1]['silhouette']:.3f}"
        )
    best = max(row["stability"] for row in tried)
    stable = [row for row in tried if row["stability"] >= best - _STABILITY_SLACK]
    furthest = max(float(row["silhouette"]) for row in stable)
    apart = [row for row in stable if row["silhouette"] >= furthest - _SILHOUETTE_SLACK]
    apart[-1]["chosen"] = True
    return tried


def _forming(raw: Float32, spec: FeatureSpec, config: ProfilesConfig) -> Float32:
    """Return the customers who form the segments: the well known ones, all but newcomers where few are."""
    well_known = raw[~is_newcomer(raw, spec, max(config.min_events, config.well_known_events))]
    if len(well_known) >= _ENOUGH * config.max_segments:
        return well_known
    return raw[~is_newcomer(raw, spec, config.min_events)]


def is_newcomer(raw: Float32, spec: FeatureSpec, min_events: int) -> NDArray[np.bool_]:
    """Tell which rows rest on too few events; a row whose number of events is missing does."""
    num_events = raw[:, spec.index("num_events")]
    return np.asarray(~(num_events >= min_events))


def distances(points: Float32, centres: Float32) -> Float32:
    """Return Euclidean distances, float32 [points, centres]."""
    gap = points[:, None, :] - centres[None, :, :]
    return np.asarray(np.sqrt((gap * gap).sum(axis=2)), dtype=np.float32)


def nearest(points: Float32, centres: Float32) -> Int64:
    """Return the index of the nearest centre, int64 [points]."""
    return np.asarray(distances(points, centres).argmin(axis=1), dtype=np.int64)


def _principal_components(scaled: Float32, variance: float) -> tuple[Float32, Float32]:
    most = min(scaled.shape)
    fitted = estimators().PCA(n_components=most, svd_solver="full").fit(scaled)
    kept = int(np.searchsorted(np.cumsum(fitted.explained_variance_ratio_), variance)) + 1
    components = np.asarray(fitted.components_[: min(kept, most)], dtype=np.float32)
    return components, np.asarray(components @ np.asarray(fitted.mean_, dtype=np.float32), dtype=np.float32)


def _kmeans(points: Float32, number: int, seed: int, restarts: int = _RESTARTS) -> Float32:
    # On few points the threads of k-means cost more than they bring.
    with threadpool_limits(1 if len(points) <= _SINGLE_THREAD_POINTS else None):
        fitted = estimators().KMeans(n_clusters=number, n_init=restarts, random_state=seed).fit(points)
    return np.asarray(fitted.cluster_centers_, dtype=np.float32)


def _bootstrap_agreement(points: Float32, labels: Int64, number: int, config: ProfilesConfig) -> list[float]:
    rng = np.random.default_rng([config.seed, number])
    agreement = []
    for _ in range(config.num_bootstraps):
        resample = points[rng.integers(0, len(points), len(points))]
        centres = _kmeans(resample, number, int(rng.integers(2**31)), restarts=3)
        agreement.append(float(adjusted_rand_score(labels, nearest(points, centres))))
    return agreement


def _silhouette(points: Float32, labels: Int64, seed: int) -> float:
    num_found = len(np.unique(labels))
    if not 1 < num_found < len(points):
        return 0.0
    size = min(_SILHOUETTE_SAMPLE, len(points))
    chosen = np.random.default_rng(seed).permutation(len(points))[:size]
    if len(np.unique(labels[chosen])) < 2:
        return 0.0
    return float(silhouette_score(points[chosen], labels[chosen]))
