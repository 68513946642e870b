"""From raw features to comparable coordinates: impute, shrink, transform, scale, project.

The served graph (graph.py) does these very steps; a test holds the two to each other.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopsight.training.profiles.feature_list import DETAIL_GROUPS, TASTE_GROUPS, TIME_GROUPS, VOLUME_GROUPS
from shopsight.training.profiles.spec import FeatureSpec

Float32 = NDArray[np.float32]

BOUND = np.float32(1e12)  # larger values are taken as this, so that infinities stay harmless
LIMIT = np.float32(4.0)  # standard deviations; beyond it a customer is extreme, not more so


@dataclass(frozen=True)
class Scaling:
    """What was learned of the features' distribution; arrays have one entry a feature, float32.

    A share is drawn towards the average customer's (`prior`) by as much as it rests on few events
    (`support`: index of the feature that counts them, -1 for none), then its square root is taken, which
    evens the variance of proportions (Bartlett, 1936). `weight` is 1 for features of how a customer shops,
    less for features of how much, and 0 for a feature that does not vary.
    """

    is_log: NDArray[np.bool_]
    is_share: NDArray[np.bool_]
    support: NDArray[np.int64]
    prior: Float32
    fill: Float32
    centre: Float32
    scale: Float32
    weight: Float32
    prior_events: Float32  # [1]

    def transform(self, raw: Float32) -> Float32:
        """Return coordinates, float32 [rows, features], of raw features with NaN where missing."""
        bent = bend(raw, self)
        filled = np.where(np.isnan(raw), self.fill, bent)
        standard = np.clip((filled - self.centre) / self.scale, -LIMIT, LIMIT)
        return np.asarray(standard * self.weight, dtype=np.float32)

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def bend(raw: Float32, scaling: Scaling) -> Float32:
    """Take logarithms of amounts and square roots of shrunken shares; missing values count as 0."""
    bounded = np.clip(np.where(np.isnan(raw), np.float32(0.0), raw), -BOUND, BOUND)
    counted = np.maximum(bounded[:, np.maximum(scaling.support, 0)], np.float32(0.0))
    trust = counted / (counted + scaling.prior_events)
    share = scaling.prior + trust * (bounded - scaling.prior)
    bent = np.where(scaling.is_log, np.log(np.maximum(bounded, np.float32(0.0)) + np.float32(1.0)), bounded)
    rooted = np.sqrt(np.maximum(share, np.float32(0.0)))
    return np.asarray(np.where(scaling.is_share, rooted, bent), dtype=np.float32)


def fit_scaling(raw: Float32, spec: FeatureSpec, *, prior_events: float, volume_weight: float) -> Scaling:
    """Learn the scaling from raw features, float32 [rows, features] with NaN where missing.

    In a shop that tells nothing of taste (one channel and no categories), how much a customer buys is what
    is left to tell customers apart: it weighs in full, and the times of day weigh `volume_weight` instead.
    """
    is_share = np.array([feature.transform == "share" for feature in spec.features])
    blank = np.zeros(len(spec.features), dtype=np.float32)
    draft = Scaling(
        is_log=np.array([feature.transform == "log1p" for feature in spec.features]),
        is_share=is_share,
        support=np.array([spec.index(f.support) if f.support else -1 for f in spec.features]),
        prior=_column_means(raw),
        fill=blank,
        centre=blank,
        scale=blank,
        weight=blank,
        prior_events=np.array([prior_events], dtype=np.float32),
    )
    bent = bend(raw, draft)
    bent[np.isnan(raw)] = np.nan
    fill = np.where(is_share, np.sqrt(np.maximum(draft.prior, 0.0)), _column_means(bent)).astype(np.float32)
    filled = np.where(np.isnan(bent), fill, bent)
    spread = filled.std(axis=0, dtype=np.float64)
    varies = spread > 1e-6
    scale = np.where(varies, spread, 1.0).astype(np.float32)
    centre = filled.mean(axis=0, dtype=np.float64).astype(np.float32)
    tastes = any(v and f.group in TASTE_GROUPS for v, f in zip(varies, spec.features, strict=True))
    minor = DETAIL_GROUPS | (VOLUME_GROUPS if tastes else TIME_GROUPS)
    weight = np.array([volume_weight if f.group in minor else 1.0 for f in spec.features]) * varies
    learned = {"fill": fill, "centre": centre, "scale": scale, "weight": weight.astype(np.float32)}
    return Scaling(**{**draft.as_arrays(), **learned})


def _column_means(values: Float32) -> Float32:
    present = ~np.isnan(values)
    total = np.where(present, values, 0.0).sum(axis=0, dtype=np.float64)
    return np.asarray(total / np.maximum(present.sum(axis=0), 1), dtype=np.float32)
