"""What training leaves for export, evaluation, the report and the next training."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file

from serving.contract import METRICS_FILE, read_json, write_json
from training.checkpoints import folder_of, read_state
from training.export import replaced_folder
from training.profiles.scaling import Scaling
from training.profiles.segments import SegmentModel
from training.profiles.spec import FeatureSpec
from training.workspace import Workspace

FORMAT_VERSION = 2
FAMILY = "profiles"

_ARRAYS = "segment.safetensors"
_STATE = "profiles.json"
_ASSIGNED = "assignments.parquet"
_POINTS = "points.parquet"
_FEATURES = "features.parquet"


@dataclass(frozen=True)
class Trained:
    """A trained profile model.

    segments: as describe.Segment.as_dict, in the order of the served ids. assigned: customer_id, segment
    int64, key, name, one row a customer. points: a sample of customers, customer_id, x and y float32 with
    segment and name, for a plot. used_keys: every key ever given, so that none is given twice.
    """

    model: SegmentModel
    segments: list[dict[str, Any]]
    assigned: pl.DataFrame
    points: pl.DataFrame
    used_keys: list[str]
    as_of: datetime
    data_sha256: str
    metrics: dict[str, Any]
    config: dict[str, Any]


def save(workspace: Workspace, trained: Trained, features: pl.DataFrame) -> None:
    """Replace `checkpoints/profiles` in one step; features as features.compute gave them."""
    model = trained.model
    arrays = {f"scaling.{name}": array for name, array in model.scaling.as_arrays().items()}
    arrays |= {"components": model.components, "offset": model.offset, "centres": model.centres}
    with replaced_folder(folder_of(workspace, FAMILY)) as folder:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / _ARRAYS)
        trained.assigned.write_parquet(folder / _ASSIGNED)
        trained.points.write_parquet(folder / _POINTS)
        features.write_parquet(folder / _FEATURES)
        write_json(folder / METRICS_FILE, trained.metrics)
        write_json(
            folder / _STATE,
            {
                "format_version": FORMAT_VERSION,
                "spec": model.spec.as_dict(),
                "min_events": model.min_events,
                "segments": trained.segments,
                "used_keys": trained.used_keys,
                "as_of": trained.as_of.isoformat(),
                "data_sha256": trained.data_sha256,
                "config": trained.config,
            },
        )


def load(workspace: Workspace) -> Trained:
    """Read `checkpoints/profiles`; raises NotTrained with the remedy when there is none."""
    state = read_state(workspace, FAMILY, _STATE, FORMAT_VERSION)
    folder = folder_of(workspace, FAMILY)
    arrays = load_file(folder / _ARRAYS)
    scaling = {n.removeprefix("scaling."): a for n, a in arrays.items() if n.startswith("scaling.")}
    model = SegmentModel(
        spec=FeatureSpec.from_dict(state["spec"]),
        scaling=Scaling(**scaling),
        components=arrays["components"],
        offset=arrays["offset"],
        centres=arrays["centres"],
        min_events=state["min_events"],
    )
    return Trained(
        model=model,
        segments=state["segments"],
        assigned=pl.read_parquet(folder / _ASSIGNED),
        points=pl.read_parquet(folder / _POINTS),
        used_keys=state["used_keys"],
        as_of=datetime.fromisoformat(state["as_of"]),
        data_sha256=state["data_sha256"],
        metrics=read_json(folder / METRICS_FILE),
        config=state["config"],
    )


def load_features(workspace: Workspace) -> pl.DataFrame:
    """Read the features that were trained on: customer_id and one Float32 column each, sorted.

    What is served and evaluated is these very numbers: the language model that read the messages for them
    may have been trained again since.
    """
    read_state(workspace, FAMILY, _STATE, FORMAT_VERSION)
    return pl.read_parquet(folder_of(workspace, FAMILY) / _FEATURES)
