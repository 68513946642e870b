"""The ONNX retrieval graph: from a customer's factors to the best items that may be shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shopsight.training.artifacts.onnx_graph import OnnxGraph, Tensors

MAX_BATCH_SIZE = 256


def write_retrieval_graph(item_factors: NDArray[np.float32], blocked: NDArray[np.bool_], path: Path) -> None:
    """Write the graph that scores, filters and ranks every item for a batch of customers.

    USER_FACTOR float32 [batch, f]; EXCLUDE_ITEM and ALLOW_ITEM int64 [batch, any], padded with -1, ALLOW_ITEM
    of nothing but -1 allows every item; K int64 [batch, 1], the largest counts. ITEM_INDEX int64 and SCORE
    float32 [batch, min(K, items)] descending, equal scores by index; a slot without an item left has index
    -1 and score -inf. item_factors float32 [items, f]; blocked bool [items]: never shown.
    """
    num_factors = item_factors.shape[1]
    graph = OnnxGraph()
    score = graph.node("MatMul", "USER_FACTOR", graph.constant("item_factors_T", item_factors.T))
    rank_items(graph, score, blocked)
    graph.save(
        path,
        name="mf_retrieval",
        inputs={"USER_FACTOR": (np.float32, ["batch", num_factors]), **ASKED},
        outputs=RANKED,
    )


# Inputs of every retrieval graph besides the customer, and its outputs; see `rank_items`.
ASKED: Tensors = {
    "EXCLUDE_ITEM": (np.int64, ["batch", "num_exclude"]),
    "ALLOW_ITEM": (np.int64, ["batch", "num_allow"]),
    "K": (np.int64, ["batch", 1]),
}
RANKED: Tensors = {"ITEM_INDEX": (np.int64, ["batch", "k"]), "SCORE": (np.float32, ["batch", "k"])}


def rank_items(graph: OnnxGraph, score: str, blocked: NDArray[np.bool_]) -> None:
    """Add the nodes that filter and rank scores, float32 [batch, items]; see `write_retrieval_graph`."""
    num_items = len(blocked)
    excluded = _marked(graph, "EXCLUDE_ITEM", num_items)
    allowed = _marked(graph, "ALLOW_ITEM", num_items)
    barred = graph.node("And", _names_any(graph, "ALLOW_ITEM"), graph.node("Not", allowed))
    hidden = graph.node("Or", excluded, barred)
    hidden = graph.node("Or", hidden, graph.constant("blocked", blocked))
    least = graph.constant("minus_infinity", np.float32(-np.inf))
    shown = graph.node("Where", hidden, least, score)
    asked = graph.node("ReduceMax", "K", graph.constant("both_axes", np.array([0, 1])), keepdims=0)
    asked = graph.node(
        "Clip", asked, graph.constant("fewest", np.int64(0)), graph.constant("most", np.int64(num_items))
    )
    size = graph.node("Reshape", asked, graph.constant("one_value", np.array([1])))
    best, index = graph.nodes("TopK", shown, size, outputs=["best", "index"], axis=1, largest=1, sorted=1)
    graph.node("Identity", best, output="SCORE")
    empty = graph.node("Equal", best, least)
    graph.node("Where", empty, graph.constant("no_item", np.int64(-1)), index, output="ITEM_INDEX")


def _names_any(graph: OnnxGraph, tensor: str) -> str:
    """Return the node of bool [batch, 1]: whether a padded list, of any length from 0 up, has an entry."""
    batch = graph.node("Shape", "K", start=0, end=1)
    column = graph.node("Concat", batch, graph.constant("one_wide", np.array([1])), axis=0)
    padding = graph.node("Expand", graph.constant("pad", np.array([[-1]])), column)
    padded = graph.node("Concat", tensor, padding, axis=1)
    highest = graph.node("ReduceMax", padded, graph.constant("list_axis", np.array([1])), keepdims=1)
    return graph.node("GreaterOrEqual", highest, graph.constant("zero_index", np.int64(0)))


def _marked(graph: OnnxGraph, tensor: str, num_items: int) -> str:
    """Return the node of bool [batch, items]: which items a padded list has."""
    # Padding and indices out of range go to one more column, which is cut off again.
    outside = graph.constant("outside", np.int64(num_items))
    low = graph.node("Less", tensor, graph.constant("first", np.int64(0)))
    high = graph.node("GreaterOrEqual", tensor, outside)
    index = graph.node("Where", graph.node("Or", low, high), outside, tensor)
    batch = graph.node("Shape", "K", start=0, end=1)
    wide = graph.node("Concat", batch, graph.constant("width", np.array([num_items + 1])), axis=0)
    nothing = graph.node("Expand", graph.constant("false", np.array([[False]])), wide)
    ones = graph.node("Equal", index, index)
    marked = graph.node("ScatterElements", nothing, index, ones, axis=1)
    begin, end, axis = (
        graph.constant(name, np.array([value]))
        for name, value in (("from_item", 0), ("to_item", num_items), ("item_axis", 1))
    )
    return graph.node("Slice", marked, begin, end, axis)
