"""The served embedding models: members of the repository that score with the very weights of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from serving.contract import METRICS_FILE, Golden, TensorSpec, read_json, write_goldens, write_json
from training.export import model_folder, write_contract
from training.goldens import golden, member
from training.recommend.embedding.config import EmbeddingConfig, config_from
from training.recommend.embedding.examples import Examples
from training.recommend.embedding.graph import write_two_tower_graph
from training.recommend.embedding.group import ALONE
from training.recommend.embedding.retrieval_task import TwoTowerTask
from training.recommend.embedding.shop_examples import VALUES_FILE
from training.recommend.embedding.trainer import load_state, shop_of, towers_of
from training.recommend.exporter import clear_length
from training.recommend.graph import MAX_BATCH_SIZE
from training.workspace import Workspace

Array = NDArray[Any]
_MODEL = "model.onnx"
_ITEMS = "items.json"
_NUM_GOLDENS = 4


def export(workspace: Workspace, config: EmbeddingConfig) -> list[Path]:
    """Write models/two_tower_retrieval; raises NotTrained when the tables changed since the training.

    Of `config` the storage of item vectors counts; everything else is as it was trained.
    """
    folder, state = load_state(workspace)
    trained = config_from(EmbeddingConfig, state["config"])
    towers, examples = towers_of(folder, "final", trained)
    task = TwoTowerTask("final", examples, trained.features, trained.two_tower, data_sha256="")
    shop = shop_of(workspace, trained)
    with model_folder(workspace, "two_tower_retrieval") as staging:
        write_two_tower_graph(
            towers,
            examples,
            trained.features,
            task.item_vectors(towers, ALONE),
            ~shop.available(shop.windows.end),
            config.item_dtype,
            staging / _MODEL,
        )
        ids = pl.read_parquet(folder / "items.parquet")["item_id"].to_list()
        write_json(staging / _ITEMS, {"format_version": 1, "item_id": ids})
        write_goldens(staging, _goldens(staging / _MODEL, examples))
        write_json(staging / METRICS_FILE, read_json(folder / METRICS_FILE))
        _write_contract(
            staging, workspace, examples, state["config"] | {"item_dtype": config.item_dtype}, folder
        )
    return [workspace.models / "two_tower_retrieval"]


def _write_contract(
    staging: Path, workspace: Workspace, examples: Examples, config: dict[str, Any], folder: Path
) -> None:
    """Write the contract; preprocessing is what turns a shop's ids and facts into the member's numbers.

    items: the file of ids, in the order of their indices; an id that is not in it has the index number of
    items + (BLAKE2b of its UTF-8, 8 bytes, little-endian) modulo item_buckets. customer_features: the columns
    of CUSTOMER_FEATURE with their values, whose codes count from 1; what is not among them is 0.
    """
    schema = examples.schema
    values = read_json(folder / "examples-final" / VALUES_FILE)["customer"]
    facts = len(schema.customer_features)
    write_contract(
        staging,
        workspace=workspace,
        name="two_tower_retrieval",
        kind="onnx",
        inputs=[
            TensorSpec("HISTORY_ITEM", "INT64", (-1,)),
            *([TensorSpec("CUSTOMER_FEATURE", "INT64", (facts,))] if facts else []),
            TensorSpec("EXCLUDE_ITEM", "INT64", (-1,)),
            TensorSpec("ALLOW_ITEM", "INT64", (-1,)),
            TensorSpec("K", "INT64", (1,)),
        ],
        outputs=[TensorSpec("ITEM_INDEX", "INT64", (-1,)), TensorSpec("SCORE", "FP32", (-1,))],
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


def _goldens(model: Path, examples: Examples) -> list[Golden]:
    """Requests of customers who never were: histories of items drawn by a seed, none, and an unseen one."""
    ask, rng, schema = member(model), np.random.default_rng(0), examples.schema
    return [_golden(ask, request, schema.num_items) for request in synthetic_requests(examples, rng)]


def synthetic_requests(examples: Examples, rng: np.random.Generator) -> list[dict[str, Array]]:
    """Return requests of the member, the last two with an empty history and with an id nobody knew."""
    schema = examples.schema
    facts = np.array(list(schema.customer_features.values()), dtype=np.int64)
    histories = [rng.integers(0, schema.num_items, 4) for _ in range(_NUM_GOLDENS - 2)]
    histories += [np.full(4, -1), np.array([schema.num_items, int(rng.integers(schema.num_items)), -1, -1])]
    requests: list[dict[str, Array]] = []
    for history in histories:
        request: dict[str, Array] = {"HISTORY_ITEM": history.astype(np.int64)}
        if len(facts):
            request["CUSTOMER_FEATURE"] = rng.integers(0, facts)
        request["EXCLUDE_ITEM"] = np.array([0, -1, -1], dtype=np.int64)
        request["ALLOW_ITEM"] = np.array([-1, -1], dtype=np.int64)
        requests.append(request)
    return requests


def _golden(ask: Any, request: dict[str, Array], num_items: int) -> Golden:
    everything = _first(ask("", _batch(request | {"K": np.array([num_items], dtype=np.int64)})))
    request = request | {"K": np.array([clear_length(everything["SCORE"])], dtype=np.int64)}
    answer = _first(ask("", _batch(request)))
    return golden(request, answer, ["ITEM_INDEX", "SCORE"])


def _batch(request: Mapping[str, Array]) -> dict[str, Array]:
    return {name: value[None] for name, value in request.items()}


def _first(answer: Mapping[str, Array]) -> dict[str, Array]:
    return {name: value[0] for name, value in answer.items()}
