"""The three member graphs of a tiny shop, built node by node so that NumPy can say what they must answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
OPSET = 20


def write_retrieval(path: Path, item_factor: Array) -> None:
    """USER_FACTOR [B, f], EXCLUDE_ITEM [B, e], ALLOW_ITEM [B, a], K [B, 1] → ITEM_INDEX, SCORE [B, k]."""
    num_items, num_factors = item_factor.shape
    weights = {
        "factors": item_factor.T.astype(np.float32),
        "items": np.arange(num_items, dtype=np.int64)[None, None],
        "num_items": np.array(num_items, dtype=np.int64),
        "none": np.array(-1, dtype=np.int64),
        "nothing": np.array(-np.inf, dtype=np.float32),
        "zero": np.array(0, dtype=np.int32),
        "first": np.array([1], dtype=np.int64),
        "second": np.array([2], dtype=np.int64),
        "one": np.array([1], dtype=np.int64),
        "zero_index": np.array(0, dtype=np.int64),
    }
    node = helper.make_node
    nodes = [
        node("MatMul", ["USER_FACTOR", "factors"], ["raw"]),
        *_contains("EXCLUDE_ITEM", "excluded"),
        *_contains("ALLOW_ITEM", "allowed"),
        node("ReduceMax", ["ALLOW_ITEM", "first"], ["largest"], keepdims=1),
        node("GreaterOrEqual", ["largest", "zero_index"], ["limited"]),
        node("Not", ["limited"], ["unlimited"]),
        node("Or", ["allowed", "unlimited"], ["may"]),
        node("Not", ["excluded"], ["kept"]),
        node("And", ["may", "kept"], ["shown"]),
        node("Where", ["shown", "raw", "nothing"], ["masked"]),
        node("ReduceMax", ["K"], ["largest_k"], keepdims=0),
        node("Min", ["largest_k", "num_items"], ["k"]),
        node("Reshape", ["k", "one"], ["k_shape"]),
        node("TopK", ["masked", "k_shape"], ["SCORE", "index"], axis=1, largest=1, sorted=1),
        node("Equal", ["SCORE", "nothing"], ["empty"]),
        node("Where", ["empty", "none", "index"], ["ITEM_INDEX"]),
    ]
    inputs = [
        ("USER_FACTOR", TensorProto.FLOAT, ["batch", num_factors]),
        ("EXCLUDE_ITEM", TensorProto.INT64, ["batch", "excluded_items"]),
        ("ALLOW_ITEM", TensorProto.INT64, ["batch", "allowed_items"]),
        ("K", TensorProto.INT64, ["batch", 1]),
    ]
    outputs = [
        ("ITEM_INDEX", TensorProto.INT64, ["batch", "list"]),
        ("SCORE", TensorProto.FLOAT, ["batch", "list"]),
    ]
    _save(path, nodes, inputs, outputs, weights)


def write_segment(path: Path, centre: Array) -> None:
    """FEATURE [B, n], NaN read as 0 → SEGMENT [B, 1], the nearest centre, and DISTANCE [B, segments]."""
    weights = {
        "centre": centre[None].astype(np.float32),
        "zero": np.array(0, dtype=np.float32),
        "middle": np.array([1], dtype=np.int64),
        "last": np.array([2], dtype=np.int64),
    }
    node = helper.make_node
    nodes = [
        node("IsNaN", ["FEATURE"], ["missing"]),
        node("Where", ["missing", "zero", "FEATURE"], ["filled"]),
        node("Unsqueeze", ["filled", "middle"], ["wide"]),
        node("Sub", ["wide", "centre"], ["apart"]),
        node("ReduceL2", ["apart", "last"], ["DISTANCE"], keepdims=0),
        node("ArgMin", ["DISTANCE"], ["SEGMENT"], axis=1, keepdims=1),
    ]
    num_segments, num_features = centre.shape
    inputs = [("FEATURE", TensorProto.FLOAT, ["batch", num_features])]
    outputs = [
        ("SEGMENT", TensorProto.INT64, ["batch", 1]),
        ("DISTANCE", TensorProto.FLOAT, ["batch", num_segments]),
    ]
    _save(path, nodes, inputs, outputs, weights)


def write_encoder(path: Path, intent: Array, sentiment: Array) -> None:
    """TOKEN_ID [B, L], LENGTH [B, 1] → logits: the mean over LENGTH tokens of each token's weights."""
    weights = {
        "intent": intent.astype(np.float32),
        "sentiment": sentiment.astype(np.float32),
        "first": np.array([1], dtype=np.int64),
        "shape_at": np.array(1, dtype=np.int64),
        "start": np.array(0, dtype=np.int64),
        "step": np.array(1, dtype=np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Shape", ["TOKEN_ID"], ["shape"]),
        node("Gather", ["shape", "shape_at"], ["width"]),
        node("Range", ["start", "width", "step"], ["place"]),
        node("Less", ["place", "LENGTH"], ["inside"]),
        node("Cast", ["inside"], ["mask2"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["mask2", "last"], ["mask"]),
        node("Cast", ["LENGTH"], ["count"], to=TensorProto.FLOAT),
    ]
    weights["last"] = np.array([2], dtype=np.int64)
    for name in ("intent", "sentiment"):
        nodes += [
            node("Gather", [name, "TOKEN_ID"], [f"{name}_each"]),
            node("Mul", [f"{name}_each", "mask"], [f"{name}_kept"]),
            node("ReduceSum", [f"{name}_kept", "first"], [f"{name}_sum"], keepdims=0),
            node("Div", [f"{name}_sum", "count"], [f"{name.upper()}_LOGIT"]),
        ]
    inputs = [
        ("TOKEN_ID", TensorProto.INT64, ["batch", "tokens"]),
        ("LENGTH", TensorProto.INT64, ["batch", 1]),
    ]
    outputs = [
        ("INTENT_LOGIT", TensorProto.FLOAT, ["batch", intent.shape[1]]),
        ("SENTIMENT_LOGIT", TensorProto.FLOAT, ["batch", sentiment.shape[1]]),
    ]
    _save(path, nodes, inputs, outputs, weights)


def _contains(listed: str, out: str) -> list[Any]:
    """Nodes that tell for each item whether a row's padded list holds it: bool [B, items]."""
    node = helper.make_node
    return [
        node("Unsqueeze", [listed, "second"], [f"{out}_wide"]),
        node("Equal", [f"{out}_wide", "items"], [f"{out}_each"]),
        node("Cast", [f"{out}_each"], [f"{out}_int"], to=TensorProto.INT32),
        node("ReduceMax", [f"{out}_int", "first"], [f"{out}_any"], keepdims=0),
        node("Greater", [f"{out}_any", "zero"], [out]),
    ]


def _save(path: Path, nodes: list[Any], inputs: Any, outputs: Any, weights: dict[str, Array]) -> None:
    graph = helper.make_graph(
        nodes,
        path.parent.name,
        [helper.make_tensor_value_info(*spec) for spec in inputs],
        [helper.make_tensor_value_info(*spec) for spec in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path)
