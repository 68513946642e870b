"""Data with which the recommend router calls the embedding members: customers' latest items and facts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.training.artifacts.trained_state import NotTrained, TrainedState, is_trained
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.recommend.checkpoint import Trained
from shopsight.training.recommend.config import BLEND_SOFTNESS, RecommendConfig

Array = NDArray[Any]
MEMBERS = ("two_tower_retrieval", "ranker")


@dataclass(frozen=True)
class Blend:
    """settings: preprocessing["blend"] of the router; customers: its arrays, one row a customer."""

    settings: dict[str, Any]
    customers: dict[str, Array]


def read_blend(workspace: Workspace, config: RecommendConfig, trained: Trained) -> Blend | None:
    """Return the data for blending; None if it is switched off or no embedding models were trained.

    Raises NotTrained if they were trained on other tables or are not exported, because all members of a
    release must be trained on the same tables.
    """
    if not config.blend or not is_trained(workspace, "embedding"):
        return None
    from shopsight.training.recommend.embedding.trainer import current

    with current(workspace) as state:
        return _read(workspace, config, trained, state)


def _read(workspace: Workspace, config: RecommendConfig, trained: Trained, state: TrainedState) -> Blend:
    from shopsight.training.artifacts.plain_settings import config_from
    from shopsight.training.recommend.embedding.config import EmbeddingConfig
    from shopsight.training.recommend.embedding.examples import Examples
    from shopsight.training.recommend.embedding.trainer import ITEMS_FILE

    items = pl.read_parquet(state.folder / ITEMS_FILE)["item_id"]
    missing = [name for name in MEMBERS if not (workspace.models / name / "model.onnx").is_file()]
    if missing or not items.equals(trained.catalogue.item_ids):
        raise NotTrained(
            f"{workspace.models}: the embedding models are not exported or know other items; run 'shopsight "
            "export embedding', or leave them out with --set recommend.blend=false"
        )
    features = config_from(EmbeddingConfig, state.config).features
    examples = Examples.open(state.folder / "examples-final")
    indptr, recent = latest(np.asarray(examples.item), np.asarray(examples.end), features.max_history)
    return Blend(
        settings={
            "weights": asdict(config.blend_weights),
            "softness": BLEND_SOFTNESS,
            "num_candidates": config.num_candidates,
            "max_history": features.max_history,
            "item_buckets": examples.schema.item_buckets,
            "num_facts": len(examples.schema.customer_features),
        },
        customers={
            "recent_indptr": indptr,
            "recent_item": recent,
            "customer_fact": np.asarray(examples.customer_feature, dtype=np.int32),
        },
    )


def latest(item: Array, end: Array, most: int) -> tuple[Array, Array]:
    """Return the last `most` items of each customer, the latest first, as a CSR pair (int64, int32).

    item: int32 [events], by customer and then by time; end: int64 [customers + 1], offsets of their events.
    """
    lengths = np.minimum(np.diff(end), most)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    age = np.arange(indptr[-1]) - np.repeat(indptr[:-1], lengths)
    return indptr, item[np.repeat(end[1:], lengths) - 1 - age].astype(np.int32)
