"""Train the profiles: from tables to described segments, with figures of their quality."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl

from shopsight.kernels.backend import estimators
from shopsight.serving.progress import Progress
from shopsight.training.artifacts.snapshots import on_one_snapshot
from shopsight.training.artifacts.trained_state import NotTrained, StateDamaged, training, write_metrics
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.period import end_of_data
from shopsight.training.evaluation.bootstrap import interval
from shopsight.training.evaluation.undefined import undefined
from shopsight.training.language.reading import read_messages
from shopsight.training.profiles.checkpoint import FAMILY, Trained, load, load_current, save
from shopsight.training.profiles.choosing import RULE
from shopsight.training.profiles.clusters import Int64
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.dense_groups import find_dense_groups
from shopsight.training.profiles.describe import describe
from shopsight.training.profiles.features import Tables, compute, feature_matrix, fit_spec
from shopsight.training.profiles.matching import Match, match_segments
from shopsight.training.profiles.migration import migrate
from shopsight.training.profiles.picture import draw
from shopsight.training.profiles.scaling import Float32
from shopsight.training.profiles.segments import SegmentModel, fit_segments

_POINTS = 3_000
_SILHOUETTE_SAMPLE = 3_000
PROTOCOL = (
    "stability: median adjusted Rand index between the segments and those of bootstrap resamples of the same "
    "customers; silhouette: mean over a sample of customers in the projected space, 95 % bootstrap interval "
    f"over customers; newcomers are left out of both; number of segments: {RULE}"
)


def train(workspace: Workspace, config: ProfilesConfig, progress: Progress) -> dict[str, Any]:
    """Train on everything in the tables and replace the trained profiles; returns the metrics.

    Raises Busy if another process trains them.
    """
    with training(workspace, FAMILY) as run:
        trained = _fitted(workspace, config, progress, run.data_sha256)
        save(run, trained)
        return trained.metrics


def _fitted(workspace: Workspace, config: ProfilesConfig, progress: Progress, data_sha256: str) -> Trained:
    as_of = end_of_data(workspace)
    tables = Tables.of(workspace, read_messages(workspace, as_of, progress))
    spec = fit_spec(tables, as_of=as_of, config=config)
    features = compute(tables, spec, as_of)
    raw = feature_matrix(features)
    progress(f"measured {len(spec.names)} features of {len(raw):,} customers as of {as_of:%Y-%m-%d %H:%M}")
    model, tried = fit_segments(raw, spec, config, progress)
    earlier = _earlier(workspace, progress)
    match = _matched(earlier, model, features["customer_id"], raw)
    model = model.reordered(np.array(match.order))
    segment, _ = model.assign(raw)
    parts = {s["key"]: s["name_parts"] for s in earlier.segments} if earlier else {}
    described = [one.as_dict() for one in describe(model, raw, segment, match.keys, parts)]
    progress(f"{model.num_clusters} segments with {estimators().library}")
    points, picture = _points(model, features["customer_id"], raw, segment, described, config)
    trained = Trained(
        model=model,
        segments=described,
        assigned=_assigned(features["customer_id"], segment, described),
        points=points,
        features=features,
        used_keys=_used_keys(earlier, match.keys),
        as_of=as_of,
        metrics={},
        config=asdict(config),
    )
    known = segment < model.num_clusters
    metrics = _metrics(trained, raw, segment, tried) | {
        "data_sha256": data_sha256,
        "picture": picture,
        "dense_groups": find_dense_groups(model.project(raw[known]), segment[known], config),
        "migration": {
            "since_last_training": _since_last_training(trained, earlier),
            "over_time": _over_time(trained, tables, config),
        },
    }
    return replace(trained, metrics=metrics)


@on_one_snapshot
def evaluate(workspace: Workspace, config: ProfilesConfig) -> dict[str, Any]:
    """Measure the trained segments again on the customers that they were trained on, and store the metrics.

    Raises NotTrained if there is no model or the tables changed since: the figures would then be those of
    other customers.
    """
    state, trained = load_current(workspace)
    raw = feature_matrix(trained.features)
    segment, _ = trained.model.assign(raw)
    silhouette = _silhouette_interval(trained.model, raw, segment, config.seed)
    metrics = trained.metrics | {"silhouette": silhouette}
    write_metrics(workspace, state, metrics)
    return metrics


def _earlier(workspace: Workspace, progress: Progress) -> Trained | None:
    try:
        return load(workspace)
    except NotTrained:
        return None
    except StateDamaged as error:
        progress(f"{error}; the segments get new keys")
        return None


def _matched(earlier: Trained | None, model: SegmentModel, customer_ids: pl.Series, raw: Float32) -> Match:
    segment, _ = model.assign(raw)
    spending = np.nan_to_num(raw[:, model.spec.index("monetary_total")])
    activity = np.nan_to_num(raw[:, model.spec.index("num_events")])
    worth = spending if spending.any() else activity
    value = [
        float(worth[segment == c].mean()) if (segment == c).any() else 0.0 for c in range(model.num_clusters)
    ]
    frame = pl.DataFrame({"customer_id": customer_ids, "segment": segment})
    if earlier is None:
        return match_segments(frame, value, None, [])
    return match_segments(frame, value, earlier.assigned, earlier.used_keys)


def _used_keys(earlier: Trained | None, keys: list[str]) -> list[str]:
    used = earlier.used_keys if earlier else []
    return [*used, *(key for key in keys if key not in used)]


def _assigned(customer_ids: pl.Series, segment: Int64, described: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame({
        "customer_id": customer_ids,
        "segment": segment,
        "key": [described[s]["key"] for s in segment],
        "name": [described[s]["name"] for s in segment],
    })  # fmt: skip


def _points(
    model: SegmentModel,
    customer_ids: pl.Series,
    raw: Float32,
    segment: Int64,
    described: list[dict[str, Any]],
    config: ProfilesConfig,
) -> tuple[pl.DataFrame, str]:
    known = np.flatnonzero(segment < model.num_clusters)
    chosen = np.sort(np.random.default_rng(config.seed).permutation(known)[:_POINTS])
    place, picture = draw(model.project(raw[chosen]), config)
    frame = pl.DataFrame({
        "customer_id": customer_ids[chosen],
        "x": place[:, 0],
        "y": place[:, 1],
        "segment": segment[chosen],
        "name": [described[s]["name"] for s in segment[chosen]],
    })  # fmt: skip
    return frame, picture


def _since_last_training(trained: Trained, earlier: Trained | None) -> dict[str, Any] | None:
    if earlier is None:
        return None
    names = {s["key"]: s["name"] for s in [*trained.segments[:-1], *earlier.segments[:-1]]}
    names |= {s["key"]: s["name"] for s in trained.segments}  # the current name is used, newcomers come last
    before, after = f"in the training of {earlier.as_of:%-d %B %Y}", f"in that of {trained.as_of:%-d %B %Y}"
    return migrate(earlier.assigned, trained.assigned, names, before=before, after=after).as_dict()


def _over_time(trained: Trained, tables: Tables, config: ProfilesConfig) -> dict[str, Any] | None:
    """Return the migration between two dates, the first `migration_days` before the last event."""
    if not config.migration_days:
        return None
    then = trained.as_of - timedelta(days=config.migration_days)
    features = compute(tables, trained.model.spec, then)
    if features.is_empty():
        return None
    segment, _ = trained.model.assign(feature_matrix(features))
    assigned = _assigned(features["customer_id"], segment, trained.segments)
    names = {s["key"]: s["name"] for s in trained.segments}
    before, after = f"on {then:%-d %B %Y}", f"on {trained.as_of:%-d %B %Y}"
    return migrate(assigned, trained.assigned, names, before=before, after=after).as_dict()


def _metrics(trained: Trained, raw: Float32, segment: Int64, tried: list[dict[str, Any]]) -> dict[str, Any]:
    chosen = next(row for row in tried if row["chosen"])
    measured = {trained.model.spec.names[i] for i in np.flatnonzero(np.isfinite(raw).any(axis=0))}
    return {
        "protocol": PROTOCOL,
        "as_of": trained.as_of.isoformat(),
        "library": estimators().library,
        "num_customers": len(raw),
        "num_features": raw.shape[1],
        "features_without_data": [name for name in trained.model.spec.names if name not in measured],
        "num_segments": trained.model.num_clusters,
        "num_newcomers": int((segment == trained.model.num_clusters).sum()),
        "stability": chosen["stability"],
        "silhouette": _silhouette_interval(trained.model, raw, segment, trained.config["seed"]),
        "tried": tried,
        "segments": [
            {k: s[k] for k in ("key", "name", "description", "num_customers", "size_share", "value_share")}
            for s in trained.segments
        ],
    }


def _silhouette_interval(model: SegmentModel, raw: Float32, segment: Int64, seed: int) -> dict[str, Any]:
    from sklearn.metrics import silhouette_samples

    known = np.flatnonzero(segment < model.num_clusters)
    chosen = np.random.default_rng(seed).permutation(known)[:_SILHOUETTE_SAMPLE]
    if not 1 < len(np.unique(segment[chosen])) < len(chosen):
        return undefined("fewer than two segments have customers to compare")
    return interval(silhouette_samples(model.project(raw[chosen]), segment[chosen]), seed=seed)
