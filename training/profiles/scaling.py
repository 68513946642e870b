"""Scale raw features: impute, shrink, transform, standardise and weigh them.

The served graph (graph.py) takes the same steps; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopsight.training.profiles.feature_list import DETAIL_GROUPS, TASTE_GROUPS, TIME_GROUPS, VOLUME_GROUPS
from shopsight.training.profiles.spec import FeatureSpec

Float32 = NDArray[np.float32]

BOUND = np.float32(1e12)  # larger values are clipped to this, so that infinities do no harm
LIMIT = np.float32(4.0)  # in standard deviations; larger values are clipped


@dataclass(frozen=True)
class Scaling:
    """The fitted scaling; arrays are float32 with one entry per feature.

    A share is shrunk towards that of the average customer (`prior`), the more the fewer events it is based on
    (`support`: index of the feature that counts them, -1 for none). Its square root is then taken, which
    stabilises the variance of proportions (Bartlett, 1936). `weight` is 1 for features of how a customer
    shops, lower for features of how much, and 0 for a feature that does not vary.
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
        """Return scaled features, float32 [rows, features], of raw features (NaN where missing)."""
        bent = bend(raw, self)
        filled = np.where(np.isnan(raw), self.fill, bent)
        standard = np.clip((filled - self.centre) / self.scale, -LIMIT, LIMIT)
        return np.asarray(standard * self.weight, dtype=np.float32)

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def bend(raw: Float32, scaling: Scaling) -> Float32:
    """Return raw features [rows, features] with logarithms of amounts and square roots of shrunken shares.

    Missing values count as 0. Returns float32 [rows, features].
    """
    bounded = np.clip(np.where(np.isnan(raw), np.float32(0.0), raw), -BOUND, BOUND)
    counted = np.maximum(bounded[:, np.maximum(scaling.support, 0)], np.float32(0.0))
    trust = counted / (counted + scaling.prior_events)
    share = scaling.prior + trust * (bounded - scaling.prior)
    bent = np.where(scaling.is_log, np.log(np.maximum(bounded, np.float32(0.0)) + np.float32(1.0)), bounded)
    rooted = np.sqrt(np.maximum(share, np.float32(0.0)))
    return np.asarray(np.where(scaling.is_share, rooted, bent), dtype=np.float32)


def fit_scaling(raw: Float32, spec: FeatureSpec, *, prior_events: float, volume_weight: float) -> Scaling:
    """Return the scaling fitted to raw features, float32 [rows, features], NaN where missing.

    In a shop without features of taste (one channel and no categories), volume is what distinguishes
    customers: it gets the weight 1, and the features of time get `volume_weight` instead.
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
