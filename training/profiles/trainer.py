"""From tables to described segments, and how good the segments are."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from kernels.backend import estimators
from serving.contract import METRICS_FILE, write_json
from training.bootstrap import interval
from training.checkpoints import NotTrained, folder_of
from training.data.tables import scan_table, snapshot_sha256
from training.profiles.checkpoint import FAMILY, Trained, load, save
from training.profiles.config import ProfilesConfig
from training.profiles.describe import describe
from training.profiles.features import compute_features, end_of_data, feature_matrix, fit_spec
from training.profiles.matching import Match, match_segments
from training.profiles.scaling import Float32
from training.profiles.segments import Int64, Progress, SegmentModel, fit_segments

_POINTS = 3_000
_SILHOUETTE_SAMPLE = 3_000
PROTOCOL = (
    "stability: median adjusted Rand index between the segments and those of bootstrap resamples of the same "
    "customers; silhouette: mean over a sample of customers in the projected space, 95 % bootstrap interval "
    "over customers; newcomers are left out of both"
)


def train(workspace: Any, config: ProfilesConfig, progress: Progress) -> dict[str, Any]:
    """Train on everything in the tables and replace checkpoints/profiles; returns the metrics."""
    as_of = end_of_data(workspace)
    tables = {name: scan_table(workspace.tables, name) for name in ("events", "items")}
    spec = fit_spec(tables["events"], tables["items"], as_of=as_of, config=config)
    features = compute_features(workspace, spec, as_of)
    raw = feature_matrix(features)
    progress(f"measured {len(spec.names)} features of {len(raw):,} customers as of {as_of:%Y-%m-%d %H:%M}")
    model, tried = fit_segments(raw, spec, config, progress)
    match = _matched(workspace, model, features["customer_id"], raw)
    model = model.reordered(np.array(match.order))
    segment, _ = model.assign(raw)
    described = [one.as_dict() for one in describe(model, raw, segment, match.keys)]
    progress(f"{model.num_clusters} segments with {estimators().library}")
    trained = Trained(
        model=model,
        segments=described,
        assigned=_assigned(features["customer_id"], segment, described),
        points=_points(model, raw, segment, described, config.seed),
        used_keys=_used_keys(workspace, match.keys),
        as_of=as_of,
        data_sha256=snapshot_sha256(workspace.tables),
        metrics={},
        config=asdict(config),
    )
    metrics = _metrics(trained, raw, segment, tried, match)
    save(workspace, Trained(**{**_fields(trained), "metrics": metrics}))
    return metrics


def evaluate(workspace: Any, config: ProfilesConfig) -> dict[str, Any]:
    """Measure the trained segments on today's tables again and rewrite their metrics.

    Raises NotTrained when there is no model, or when the tables changed since: a segment's share and
    silhouette are then those of other customers.
    """
    trained = load(workspace)
    if trained.data_sha256 != snapshot_sha256(workspace.tables):
        raise NotTrained(
            f"{workspace.tables} changed since profiles were trained; run 'shopsight train {FAMILY}'"
        )
    features = compute_features(workspace, trained.model.spec, trained.as_of)
    raw = feature_matrix(features)
    segment, _ = trained.model.assign(raw)
    metrics = dict(trained.metrics) | {
        "silhouette": _silhouette_interval(trained.model, raw, segment, config.seed)
    }
    write_json(folder_of(workspace, FAMILY) / METRICS_FILE, metrics)
    return metrics


def _matched(workspace: Any, model: SegmentModel, customer_ids: pl.Series, raw: Float32) -> Match:
    segment, _ = model.assign(raw)
    spending = np.nan_to_num(raw[:, model.spec.index("monetary_total")])
    activity = np.nan_to_num(raw[:, model.spec.index("num_events")])
    worth = spending if spending.any() else activity
    value = [
        float(worth[segment == c].mean()) if (segment == c).any() else 0.0 for c in range(model.num_clusters)
    ]
    frame = pl.DataFrame({"customer_id": customer_ids, "segment": segment})
    try:
        earlier = load(workspace)
    except NotTrained:
        return match_segments(frame, value, None, [])
    return match_segments(frame, value, earlier.assigned, earlier.used_keys)


def _used_keys(workspace: Any, keys: list[str]) -> list[str]:
    try:
        earlier = load(workspace).used_keys
    except NotTrained:
        earlier = []
    return [*earlier, *(key for key in keys if key not in earlier)]


def _assigned(customer_ids: pl.Series, segment: Int64, described: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame({
        "customer_id": customer_ids,
        "segment": segment,
        "key": [described[s]["key"] for s in segment],
        "name": [described[s]["name"] for s in segment],
    })  # fmt: skip


def _points(
    model: SegmentModel, raw: Float32, segment: Int64, described: list[dict[str, Any]], seed: int
) -> pl.DataFrame:
    known = np.flatnonzero(segment < model.num_clusters)
    chosen = np.sort(np.random.default_rng(seed).permutation(known)[:_POINTS])
    projected = model.project(raw[chosen])
    second = projected[:, 1] if projected.shape[1] > 1 else np.zeros(len(chosen), dtype=np.float32)
    return pl.DataFrame({
        "pc1": projected[:, 0],
        "pc2": second,
        "segment": segment[chosen],
        "name": [described[s]["name"] for s in segment[chosen]],
    })  # fmt: skip


def _metrics(
    trained: Trained, raw: Float32, segment: Int64, tried: list[dict[str, Any]], match: Match
) -> dict[str, Any]:
    chosen = next(row for row in tried if row["chosen"])
    return {
        "protocol": PROTOCOL,
        "data_sha256": trained.data_sha256,
        "as_of": trained.as_of.isoformat(),
        "library": estimators().library,
        "num_customers": len(raw),
        "num_features": raw.shape[1],
        "num_segments": trained.model.num_clusters,
        "num_newcomers": int((segment == trained.model.num_clusters).sum()),
        "stability": chosen["stability"],
        "silhouette": _silhouette_interval(trained.model, raw, segment, trained.config["seed"]),
        "tried": tried,
        "segments": [
            {k: s[k] for k in ("key", "name", "description", "num_customers", "size_share", "value_share")}
            for s in trained.segments
        ],
        "migration": match.migration,
    }


def _silhouette_interval(model: SegmentModel, raw: Float32, segment: Int64, seed: int) -> dict[str, float]:
    from sklearn.metrics import silhouette_samples

    known = np.flatnonzero(segment < model.num_clusters)
    chosen = np.random.default_rng(seed).permutation(known)[:_SILHOUETTE_SAMPLE]
    if not 1 < len(np.unique(segment[chosen])) < len(chosen):
        return interval(np.zeros(1), seed=seed)
    return interval(silhouette_samples(model.project(raw[chosen]), segment[chosen]), seed=seed)


def _fields(trained: Trained) -> dict[str, Any]:
    return {name: getattr(trained, name) for name in Trained.__dataclass_fields__}
