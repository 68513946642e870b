"""Export the profile models: the member `segment` and the data of the router `profile`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shopsight.serving.contract import METRICS_FILE, TensorSpec, write_goldens, write_json
from shopsight.serving.routing.profile import ProfileRouter
from shopsight.serving.routing.rows import Row
from shopsight.serving.routing.tensors import PROFILE
from shopsight.training.artifacts.goldens import golden, member, session
from shopsight.training.artifacts.model_folders import model_folder, write_contract
from shopsight.training.artifacts.snapshots import on_one_snapshot
from shopsight.training.artifacts.trained_state import TrainedState
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.people_files import write_people
from shopsight.training.profiles.checkpoint import Trained, load_current
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.features import feature_matrix
from shopsight.training.profiles.graph import MAX_BATCH_SIZE, write_segment_graph
from shopsight.training.profiles.scaling import Float32
from shopsight.training.profiles.segments import SegmentModel
from shopsight.training.value.served import Served, served

_MODEL = "model.onnx"
_CLEAR_MARGIN = 1e-3  # least difference of the two nearest centres, so that rounding cannot change a golden


@on_one_snapshot
def export(workspace: Workspace, _: ProfilesConfig) -> list[Path]:
    """Write models/segment and models/profile; raises NotTrained when the tables changed since training."""
    state, trained = load_current(workspace)
    customer_ids, raw = trained.features["customer_id"], feature_matrix(trained.features)
    examples = synthetic_rows(trained.model, raw)
    with model_folder(workspace, "segment") as folder:
        _write_segment(folder, state, trained, examples)
    with model_folder(workspace, "profile") as folder:
        forecasts = served(workspace, customer_ids)
        key_id = write_people(folder, workspace, customer_ids, {"feature": raw, **forecasts.arrays})
        _write_profile(folder, workspace, state, trained, examples, key_id, forecasts)
    return [workspace.models / "segment", workspace.models / "profile"]


def synthetic_rows(model: SegmentModel, raw: Float32) -> Float32:
    """Return synthetic customers, float32 [rows, features]: quantiles of every feature, and a newcomer.

    Rows that are about as near to a second segment are left out; the last row has all features missing.
    """
    present = np.where(np.isnan(raw).all(axis=0), np.float32(0), raw)
    quantiles = np.nanquantile(present, [0.1, 0.3, 0.5, 0.7, 0.9], axis=0).astype(np.float32)
    quantiles[:, model.spec.index("num_events")] += model.min_events
    _, distance = model.assign(quantiles)
    nearest = np.sort(distance, axis=1)
    clear = nearest[:, 1] - nearest[:, 0] > _CLEAR_MARGIN
    missing = np.full((1, raw.shape[1]), np.nan, dtype=np.float32)
    return np.concatenate([quantiles[clear], missing])


def _write_segment(folder: Path, state: TrainedState, trained: Trained, examples: Float32) -> None:
    model = trained.model
    write_segment_graph(model, folder / _MODEL)
    opened = session(folder / _MODEL)
    goldens = []
    for row in examples:
        segment, distance = opened.run(["SEGMENT", "DISTANCE"], {"FEATURE": row[None]})
        answer = {"SEGMENT": segment[0], "DISTANCE": distance[0]}
        goldens.append(golden({"FEATURE": row}, answer, ["SEGMENT", "DISTANCE"]))
    write_goldens(folder, goldens)
    write_json(folder / METRICS_FILE, trained.metrics)
    write_contract(
        folder,
        data_sha256=state.data_sha256,
        name="segment",
        kind="onnx",
        inputs=[TensorSpec("FEATURE", "FP32", (len(model.spec.features),))],
        outputs=[
            TensorSpec("SEGMENT", "INT64", (1,)),
            TensorSpec("DISTANCE", "FP32", (model.num_clusters,)),
        ],
        max_batch_size=MAX_BATCH_SIZE,
        files=[_MODEL],
        preprocessing={"feature_names": model.spec.names},
        config=trained.config,
    )


def _write_profile(
    folder: Path,
    workspace: Workspace,
    state: TrainedState,
    trained: Trained,
    examples: Float32,
    key_id: str,
    forecasts: Served,
) -> None:
    """Write the contract and the goldens of the router.

    preprocessing: feature_names in the order of FEATURE; segments with key (stable over trainings), name and
    description, in the order of SEGMENT; features as training/profiles/spec.py specifies them; as_of, the
    time that the features describe; key_id of the key that hashed the identities; forecast, the units of the
    forecasts of the value model, if one was trained.
    """
    write_json(folder / METRICS_FILE, trained.metrics | forecasts.metrics)
    spec = trained.model.spec
    outputs = [output for output in PROFILE.outputs if output.name not in forecasts.left_out()]
    write_contract(
        folder,
        data_sha256=state.data_sha256,
        name="profile",
        kind="router",
        inputs=PROFILE.inputs,
        outputs=outputs,
        max_batch_size=PROFILE.max_batch_size,
        files=["customers.safetensors", "identities.safetensors"],
        calls=PROFILE.calls,
        preprocessing={
            "feature_names": spec.names,
            "features": spec.as_dict(),
            "segments": [{k: s[k] for k in ("key", "name", "description")} for s in trained.segments],
            "as_of": trained.as_of.isoformat(),
            "key_id": key_id,
            **forecasts.preprocessing,
        },
        config=trained.config,
    )
    router = ProfileRouter(folder, release="0")
    ask = member(workspace.models / "segment" / _MODEL)
    names = [output.name for output in outputs if output.name != "RELEASE"]
    requests = [{"FEATURE": row} for row in examples]
    answers = router.answer([Row(request) for request in requests], ask)
    write_goldens(
        folder,
        [golden(q, a, names) for q, a in zip(requests, answers, strict=True) if isinstance(a, dict)],
    )
