"""The trained profiles on disk, as export, evaluation, the report and the next training read them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import save_file

from shopsight.serving.routing.arrays import load_safetensors
from shopsight.training.artifacts.trained_state import TrainedState, Training, opened
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.profiles.scaling import Scaling
from shopsight.training.profiles.segments import SegmentModel
from shopsight.training.profiles.spec import FeatureSpec

FORMAT_VERSION = 3
FAMILY = "profiles"

_ARRAYS = "segment.safetensors"
_ASSIGNED = "assignments.parquet"
_POINTS = "points.parquet"
_FEATURES = "features.parquet"


@dataclass(frozen=True)
class Trained:
    """A trained profile model.

    segments: as describe.Segment.as_dict, in the order of the served ids. assigned: customer_id, segment
    int64, key, name, one row a customer. points: a sample of customers, customer_id, x and y float32 with
    segment and name, for a plot. features: customer_id (sorted) and one Float32 column per feature, as they
    were trained on; they are stored because the language model behind some of them may have been retrained
    since. used_keys: every key ever assigned, so that no key is used twice.
    """

    model: SegmentModel
    segments: list[dict[str, Any]]
    assigned: pl.DataFrame
    points: pl.DataFrame
    features: pl.DataFrame
    used_keys: list[str]
    as_of: datetime
    metrics: dict[str, Any]
    config: dict[str, Any]


def save(run: Training, trained: Trained) -> None:
    """Replace the trained profiles in one step."""
    model = trained.model
    arrays = {f"scaling.{name}": array for name, array in model.scaling.as_arrays().items()}
    arrays |= {"components": model.components, "offset": model.offset, "centres": model.centres}
    facts = {
        "spec": model.spec.as_dict(),
        "min_events": model.min_events,
        "segments": trained.segments,
        "used_keys": trained.used_keys,
        "as_of": trained.as_of.isoformat(),
    }
    with run.saved(FORMAT_VERSION, trained.config, facts, trained.metrics) as folder:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / _ARRAYS)
        trained.assigned.write_parquet(folder / _ASSIGNED)
        trained.points.write_parquet(folder / _POINTS)
        trained.features.write_parquet(folder / _FEATURES)


def load(workspace: Workspace) -> Trained:
    """Read the trained profiles; raises NotTrained and StateDamaged with the remedy."""
    with opened(workspace, FAMILY, FORMAT_VERSION) as state:
        return _read(state)


def load_current(workspace: Workspace) -> tuple[TrainedState, Trained]:
    """Read the trained profiles; raises NotTrained also when the tables changed since the training."""
    with opened(workspace, FAMILY, FORMAT_VERSION) as state:
        state.require_present_tables(workspace)
        return state, _read(state)


def _read(state: TrainedState) -> Trained:
    folder, facts = state.folder, state.facts
    arrays = load_safetensors(folder / _ARRAYS)
    scaling = {n.removeprefix("scaling."): a for n, a in arrays.items() if n.startswith("scaling.")}
    model = SegmentModel(
        spec=FeatureSpec.from_dict(facts["spec"]),
        scaling=Scaling(**scaling),
        components=arrays["components"],
        offset=arrays["offset"],
        centres=arrays["centres"],
        min_events=facts["min_events"],
    )
    return Trained(
        model=model,
        segments=facts["segments"],
        assigned=pl.read_parquet(folder / _ASSIGNED),
        points=pl.read_parquet(folder / _POINTS),
        features=pl.read_parquet(folder / _FEATURES),
        used_keys=facts["used_keys"],
        as_of=datetime.fromisoformat(facts["as_of"]),
        metrics=state.metrics,
        config=state.config,
    )
