"""The ONNX graphs of the towers and the ranker: from a history to the best items, or to scores of items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from shopsight.training.artifacts.onnx_graph import OnnxGraph
from shopsight.training.recommend.embedding.config import FeatureConfig
from shopsight.training.recommend.embedding.examples import Examples
from shopsight.training.recommend.embedding.inputs import HISTORY_KEYS, KeyedBags
from shopsight.training.recommend.embedding.item_store import stored
from shopsight.training.recommend.embedding.ranker import Ranker
from shopsight.training.recommend.embedding.two_tower import Tower, TwoTower
from shopsight.training.recommend.graph import ASKED, RANKED, rank_items

Float32 = NDArray[np.float32]


def write_two_tower_graph(
    towers: TwoTower,
    examples: Examples,
    features: FeatureConfig,
    items: Float32,
    blocked: NDArray[np.bool_],
    dtype: str,
    path: Path,
) -> None:
    """Write the graph that makes a customer's vector, then scores, filters and ranks every item.

    HISTORY_ITEM int64 [batch, any]: item indices, the latest first, padded with -1 at the end; an id that
    training did not know is number of items + its bucket. CUSTOMER_FEATURE int64 [batch, features]: codes, 0
    or anything beyond the table for unknown; no such input where there are none. The rest is that of
    `write_retrieval_graph`. items float32 [items, dim] are stored as `dtype` (item_store.py).
    """
    graph, schema = OnnxGraph(), examples.schema
    vector = customer_vector(graph, towers, examples, features)
    kept, scale = stored(items, dtype)
    table = graph.constant("item_vectors_T", kept.T)
    whole = table if dtype == "float32" else graph.node("Cast", table, to=1)
    score = graph.node("MatMul", vector, whole)
    if scale is not None:
        score = graph.node("Mul", score, graph.constant("item_scale", scale[None, :]))
    rank_items(graph, score, blocked)
    facts = len(schema.customer_features)
    graph.save(
        path,
        name="two_tower_retrieval",
        inputs={
            "HISTORY_ITEM": (np.int64, ["batch", "num_history"]),
            **({"CUSTOMER_FEATURE": (np.int64, ["batch", facts])} if facts else {}),
            **ASKED,
        },
        outputs=RANKED,
    )


def customer_vector(graph: OnnxGraph, towers: TwoTower, examples: Examples, features: FeatureConfig) -> str:
    """Add the customer's tower; returns its vector, float32 [batch, dim]."""
    parts = pooled_history(graph, _table(towers.customer_tables, "history"), examples, features)
    parts += customer_facts(graph, towers.customer_tables, list(examples.schema.customer_features))
    return _tower(graph, towers.customer_tower, parts, "customer")


def pooled_history(
    graph: OnnxGraph, table: Float32, examples: Examples, features: FeatureConfig
) -> list[str]:
    """Add the bags of the history, the averages of all, the latest few and the last: [batch, dim] each."""
    rows, known = history_rows(graph, examples)
    embedded = graph.node("Gather", graph.constant("history_table", table), rows)
    ones = graph.node("Cast", known, to=1)
    mask = graph.node("Unsqueeze", ones, graph.constant("innermost", np.array([-1])))
    masked = graph.node("Mul", embedded, mask)
    lengths = dict(zip(HISTORY_KEYS, (features.max_history, features.num_recent, 1), strict=True))
    return [_mean(graph, masked, mask, most, name) for name, most in lengths.items()]


def history_rows(graph: OnnxGraph, examples: Examples) -> tuple[str, str]:
    """Add the table's row of each entry of HISTORY_ITEM, and whether there is one: [batch, any] each."""
    schema = examples.schema
    rows = np.concatenate(
        [examples.item_row, schema.num_items + np.arange(schema.item_buckets, dtype=np.int32)]
    ).astype(np.int64)
    known = graph.node("GreaterOrEqual", "HISTORY_ITEM", graph.constant("zero", np.int64(0)))
    inside = graph.node(
        "Clip",
        "HISTORY_ITEM",
        graph.constant("first_item", np.int64(0)),
        graph.constant("last_bucket", np.int64(len(rows) - 1)),
    )
    return graph.node("Gather", graph.constant("item_row", rows), inside), known


def customer_facts(graph: OnnxGraph, tables: KeyedBags, names: Sequence[str]) -> list[str]:
    """Add the embeddings of the customer's facts: [batch, dim] each."""
    found = []
    for place, name in enumerate(names):
        table = _table(tables, f"customer_{name}")
        column = graph.constant(f"column_{name}", np.int64(place))
        code = graph.node("Gather", "CUSTOMER_FEATURE", column, axis=1)
        size = graph.constant(f"size_{name}", np.int64(len(table)))
        zero = graph.constant(f"unknown_{name}", np.int64(0))
        outside = graph.node("Or", graph.node("GreaterOrEqual", code, size), graph.node("Less", code, zero))
        row = graph.node("Where", outside, zero, code)
        found.append(graph.node("Gather", graph.constant(f"table_customer_{name}", table), row))
    return found


def perceptron(graph: OnnxGraph, layers: nn.Sequential, value: str, name: str) -> str:
    """Add linear layers with what lies between them; `value` is float32 [..., width]."""
    for place, layer in enumerate(layers):
        if isinstance(layer, nn.Linear):
            weight = graph.constant(f"{name}_weight_{place}", array(layer.weight).T)
            bias = graph.constant(f"{name}_bias_{place}", array(layer.bias))
            value = graph.node("Add", graph.node("MatMul", value, weight), bias)
        else:
            value = graph.node("Relu", value)
    return value


def array(tensor: Tensor) -> Float32:
    """A parameter as float32."""
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float32)


def _tower(graph: OnnxGraph, tower: Tower, parts: Sequence[str], name: str) -> str:
    weights = array(tower.mix)[:, 0]
    mixed = [
        graph.node("Mul", part, graph.constant(f"{name}_mix_{place}", np.float32(weight)))
        for place, (part, weight) in enumerate(zip(parts, weights, strict=True))
    ]
    vector = graph.node("Sum", *mixed)
    if tower.layers is not None:
        pooled = graph.node("Concat", *parts, axis=1)
        vector = graph.node("Add", vector, perceptron(graph, tower.layers, pooled, name))
    length = graph.node("ReduceL2", vector, graph.constant(f"{name}_axis", np.array([1])), keepdims=1)
    least = graph.constant(f"{name}_least", np.float32(1e-12))
    return graph.node("Div", vector, graph.node("Max", length, least))


def _mean(graph: OnnxGraph, masked: str, mask: str, most: int, name: str) -> str:
    """The average over the first `most` places: [batch, dim]; zero where there are none."""
    bounds = [
        graph.constant(f"{name}_{what}", np.array([value]))
        for what, value in (("from", 0), ("to", most), ("axis", 1))
    ]
    axis = graph.constant(f"{name}_summed", np.array([1]))
    total, count = (
        graph.node("ReduceSum", graph.node("Slice", part, *bounds), axis, keepdims=0)
        for part in (masked, mask)
    )
    return graph.node("Div", total, graph.node("Max", count, graph.constant(f"{name}_one", np.float32(1))))


def _table(tables: KeyedBags, name: str) -> Float32:
    return array(tables.bags.embedding_bags[name].weight)


def write_ranker_graph(ranker: Ranker, examples: Examples, features: FeatureConfig, path: Path) -> None:
    """Write the graph that scores candidates of a customer.

    HISTORY_ITEM and CUSTOMER_FEATURE as `write_two_tower_graph` has them; CANDIDATE_ITEM int64 [batch, any],
    padded with -1, an id that training did not know as number of items + its bucket. SCORE float32 [batch,
    any], -inf where there is no candidate.
    """
    graph, schema = OnnxGraph(), examples.schema
    mine = pooled_history(graph, _table(ranker.customer_tables, "history"), examples, features)
    mine += customer_facts(graph, ranker.customer_tables, list(schema.customer_features))
    axis = graph.constant("part_axis", np.array([1]))
    customer = graph.node("Concat", *[graph.node("Unsqueeze", part, axis) for part in mine], axis=1)
    given = graph.node("GreaterOrEqual", "CANDIDATE_ITEM", graph.constant("first_given", np.int64(0)))
    inside = graph.node(
        "Clip",
        "CANDIDATE_ITEM",
        graph.constant("first_candidate", np.int64(0)),
        graph.constant("last_candidate", np.int64(schema.num_items + schema.item_buckets - 1)),
    )
    described = perceptron(graph, ranker.dense_layers, _dense(graph, inside, examples, features), "dense")
    parts = _parts(graph, customer, inside, described, ranker, examples)
    across = graph.node("MatMul", parts, graph.node("Transpose", parts, perm=[0, 1, 3, 2]))
    num_parts = len(mine) + len(schema.item_features) + 2
    flat = graph.node("Reshape", across, graph.constant("flat", np.array([0, 0, num_parts**2])))
    dots = graph.node("Gather", flat, graph.constant("pairs", ranker.pairs.cpu().numpy()), axis=2)
    top = graph.node("Concat", described, dots, axis=2)
    score = graph.node(
        "Squeeze",
        perceptron(graph, ranker.layers, top, "top"),
        graph.constant("score_axis", np.array([2])),
    )
    least = graph.constant("minus_infinity", np.float32(-np.inf))
    graph.node("Where", given, score, least, output="SCORE")
    facts = len(schema.customer_features)
    graph.save(
        path,
        name="ranker",
        inputs={
            "HISTORY_ITEM": (np.int64, ["batch", "num_history"]),
            **({"CUSTOMER_FEATURE": (np.int64, ["batch", facts])} if facts else {}),
            "CANDIDATE_ITEM": (np.int64, ["batch", "num_candidates"]),
        },
        outputs={"SCORE": (np.float32, ["batch", "num_candidates"])},
    )


def _parts(
    graph: OnnxGraph, customer: str, candidate: str, described: str, ranker: Ranker, examples: Examples
) -> str:
    """Add all embeddings of each candidate's row: [batch, candidates, parts, dim]."""
    theirs = graph.node("Gather", graph.constant("item_parts", _item_parts(ranker, examples)), candidate)
    mine = graph.node("Unsqueeze", customer, graph.constant("candidate_axis", np.array([1])))
    width = graph.node("Shape", candidate, start=1, end=2)
    one = graph.constant("one", np.array([1]))
    shape = graph.node("Concat", one, width, one, one, axis=0)
    everyone = graph.node("Expand", mine, shape)
    extra = graph.node("Unsqueeze", described, graph.constant("described_axis", np.array([2])))
    return graph.node("Concat", everyone, theirs, extra, axis=2)


def _item_parts(ranker: Ranker, examples: Examples) -> Float32:
    """The embeddings behind each item and, after them, each bucket: float32 [items + buckets, parts, dim]."""
    schema, tables = examples.schema, ranker.item_tables
    buckets = schema.num_items + np.arange(schema.item_buckets)
    rows = np.concatenate([examples.item_row, buckets])
    nothing = np.zeros((schema.item_buckets, examples.item_feature.shape[1]), dtype=np.int32)
    codes = np.concatenate([examples.item_feature, nothing])
    facts = [_table(tables, f"item_{name}")[codes[:, at]] for at, name in enumerate(schema.item_features)]
    return np.stack([_table(tables, "item")[rows], *facts], axis=1)


def _dense(graph: OnnxGraph, candidate: str, examples: Examples, features: FeatureConfig) -> str:
    """Add the dense features that ranker.DENSE names: float32 [batch, candidates, 3]."""
    bounds = [
        graph.constant(f"dense_{what}", np.array([value]))
        for what, value in (("from", 0), ("to", features.max_history), ("axis", 1))
    ]
    history = graph.node("Slice", "HISTORY_ITEM", *bounds)
    there = graph.node("GreaterOrEqual", history, graph.constant("dense_zero", np.int64(0)))
    last, middle, first = (graph.constant(f"dense_{at}", np.array([at])) for at in (2, -2, 1))
    same = graph.node(
        "Equal", graph.node("Unsqueeze", history, first), graph.node("Unsqueeze", candidate, last)
    )
    times = graph.node("ReduceSum", graph.node("Cast", same, to=1), last, keepdims=1)
    length = graph.node("ReduceSum", graph.node("Cast", there, to=1), first, keepdims=1)
    wide = graph.node("Unsqueeze", length, middle)
    zeros = graph.node("Mul", times, graph.constant("dense_nothing", np.float32(0)))
    unseen = np.zeros(examples.schema.item_buckets, dtype=np.int64)
    popular = np.concatenate([examples.item_count, unseen]).astype(np.float32)
    count = graph.node("Gather", graph.constant("item_count", popular[:, None]), candidate)
    counts = graph.node("Concat", count, graph.node("Add", zeros, wide), times, axis=2)
    return graph.node("Log", graph.node("Add", counts, graph.constant("log_one", np.float32(1))))
