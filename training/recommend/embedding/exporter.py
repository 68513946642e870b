"""Export the embedding models as repository members with the weights of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.serving.contract import METRICS_FILE, Golden, TensorSpec, read_json, write_goldens, write_json
from shopsight.training.artifacts.goldens import golden, member
from shopsight.training.artifacts.model_folders import model_folder, write_contract
from shopsight.training.artifacts.plain_settings import config_from
from shopsight.training.artifacts.snapshots import on_one_snapshot
from shopsight.training.artifacts.trained_state import TrainedState
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.recommend.embedding.config import EmbeddingConfig
from shopsight.training.recommend.embedding.examples import Examples
from shopsight.training.recommend.embedding.graph import write_ranker_graph, write_two_tower_graph
from shopsight.training.recommend.embedding.group import ALONE
from shopsight.training.recommend.embedding.measuring import ranker_of, shop_of, towers_of
from shopsight.training.recommend.embedding.retrieval_task import TwoTowerTask
from shopsight.training.recommend.embedding.shop_examples import VALUES_FILE
from shopsight.training.recommend.embedding.trainer import ITEMS_FILE, current
from shopsight.training.recommend.exporter import clear_length
from shopsight.training.recommend.graph import MAX_BATCH_SIZE

Array = NDArray[Any]
_MODEL = "model.onnx"
_ITEMS = "items.json"
_NUM_GOLDENS = 4


@on_one_snapshot
def export(workspace: Workspace, config: EmbeddingConfig) -> list[Path]:
    """Write models/two_tower_retrieval and models/ranker; raises NotTrained when the tables changed since.

    Only the storage of item vectors is taken from `config`; all else is as it was trained.
    """
    with current(workspace) as state:
        return _exported(workspace, config, state)


def _exported(workspace: Workspace, config: EmbeddingConfig, state: TrainedState) -> list[Path]:
    trained = config_from(EmbeddingConfig, state.config)
    about = state.config | {"item_dtype": config.item_dtype}
    towers, examples = towers_of(state.folder, "final", trained)
    task = TwoTowerTask("final", examples, trained.features, trained.two_tower, data_sha256="")
    shop = shop_of(workspace, trained)
    blocked = ~shop.available(shop.windows.end)
    vectors = task.item_vectors(towers, ALONE)
    with model_folder(workspace, "two_tower_retrieval") as staging:
        write_two_tower_graph(
            towers, examples, trained.features, vectors, blocked, config.item_dtype, staging / _MODEL
        )
        write_goldens(staging, _retrieval_goldens(staging / _MODEL, examples))
        inputs = [
            TensorSpec("EXCLUDE_ITEM", "INT64", (-1,)),
            TensorSpec("ALLOW_ITEM", "INT64", (-1,)),
            TensorSpec("K", "INT64", (1,)),
        ]
        outputs = [TensorSpec("ITEM_INDEX", "INT64", (-1,)), TensorSpec("SCORE", "FP32", (-1,))]
        _finish("two_tower_retrieval", staging, state, examples, about, inputs, outputs)
    ranker, _ = ranker_of(state.folder, "final", trained)
    with model_folder(workspace, "ranker") as staging:
        write_ranker_graph(ranker, examples, trained.features, staging / _MODEL)
        write_goldens(staging, _ranker_goldens(staging / _MODEL, examples))
        inputs = [TensorSpec("CANDIDATE_ITEM", "INT64", (-1,))]
        outputs = [TensorSpec("SCORE", "FP32", (-1,))]
        _finish("ranker", staging, state, examples, about, inputs, outputs)
    return [workspace.models / "two_tower_retrieval", workspace.models / "ranker"]


def _finish(
    name: str,
    staging: Path,
    state: TrainedState,
    examples: Examples,
    config: dict[str, Any],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> None:
    """Write ids, metrics and the contract of a member; `inputs` are those beside the customer's.

    preprocessing is what turns a shop's ids and facts into the member's numbers. items: the file of ids, in
    the order of their indices; an id that is not in it has the index number of items + (BLAKE2b of its UTF-8,
    8 bytes, little-endian) modulo item_buckets. customer_features: the columns of CUSTOMER_FEATURE with their
    values, whose codes count from 1; what is not among them is 0.
    """
    schema = examples.schema
    values = read_json(state.folder / "examples-final" / VALUES_FILE)["customer"]
    ids = pl.read_parquet(state.folder / ITEMS_FILE)["item_id"].to_list()
    write_json(staging / _ITEMS, {"format_version": 1, "item_id": ids})
    write_json(staging / METRICS_FILE, state.metrics)
    facts = len(schema.customer_features)
    write_contract(
        staging,
        data_sha256=state.data_sha256,
        name=name,
        kind="onnx",
        inputs=[
            TensorSpec("HISTORY_ITEM", "INT64", (-1,)),
            *([TensorSpec("CUSTOMER_FEATURE", "INT64", (facts,))] if facts else []),
            *inputs,
        ],
        outputs=outputs,
        max_batch_size=MAX_BATCH_SIZE,
        files=[_MODEL, _ITEMS],
        preprocessing={
            "items": _ITEMS,
            "item_buckets": schema.item_buckets,
            "customer_features": [
                {"name": name, "values": values.get(name, [])} for name in schema.customer_features
            ],
            "max_history": config["features"]["max_history"],
            "history_event": "all but returns",
        },
        config=config,
    )


def _retrieval_goldens(model: Path, examples: Examples) -> list[Golden]:
    """Return goldens of synthetic customers, with lists cut where scores differ clearly."""
    ask, found = member(model), []
    everything = np.array([examples.schema.num_items], dtype=np.int64)
    for request in synthetic_requests(examples, np.random.default_rng(0)):
        request["EXCLUDE_ITEM"] = np.array([0, -1, -1], dtype=np.int64)
        request["ALLOW_ITEM"] = np.array([-1, -1], dtype=np.int64)
        whole = _first(ask("", _batch(request | {"K": everything})))
        request["K"] = np.array([clear_length(whole["SCORE"])], dtype=np.int64)
        found.append(golden(request, _first(ask("", _batch(request))), ["ITEM_INDEX", "SCORE"]))
    return found


def _ranker_goldens(model: Path, examples: Examples) -> list[Golden]:
    """Return goldens with scores of candidates of the same customers, one of them an unknown id."""
    ask, rng, found = member(model), np.random.default_rng(1), []
    for request in synthetic_requests(examples, np.random.default_rng(0)):
        drawn = rng.integers(0, examples.schema.num_items, 3)
        request["CANDIDATE_ITEM"] = np.array([*drawn, examples.schema.num_items], dtype=np.int64)
        found.append(golden(request, _first(ask("", _batch(request))), ["SCORE"]))
    return found


def synthetic_requests(examples: Examples, rng: np.random.Generator) -> list[dict[str, Array]]:
    """Return requests of synthetic customers; the last two have no history, and an unknown item id."""
    schema = examples.schema
    facts = np.array(list(schema.customer_features.values()), dtype=np.int64)
    histories = [rng.integers(0, schema.num_items, 4) for _ in range(_NUM_GOLDENS - 2)]
    histories += [np.full(4, -1), np.array([schema.num_items, int(rng.integers(schema.num_items)), -1, -1])]
    requests: list[dict[str, Array]] = []
    for history in histories:
        request: dict[str, Array] = {"HISTORY_ITEM": history.astype(np.int64)}
        if len(facts):
            request["CUSTOMER_FEATURE"] = rng.integers(0, facts)
        requests.append(request)
    return requests


def _batch(request: Mapping[str, Array]) -> dict[str, Array]:
    return {name: value[None] for name, value in request.items()}


def _first(answer: Mapping[str, Array]) -> dict[str, Array]:
    return {name: value[0] for name, value in answer.items()}
