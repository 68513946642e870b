"""The ONNX graph that assigns segments, built node by node to compute exactly what training computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shopsight.training.artifacts.onnx_graph import OnnxGraph
from shopsight.training.profiles.scaling import BOUND, LIMIT
from shopsight.training.profiles.segments import SegmentModel

MAX_BATCH_SIZE = 256


def write_segment_graph(model: SegmentModel, path: Path) -> None:
    """Write the graph: FEATURE float32 [batch, features] to SEGMENT int64 [batch, 1], DISTANCE [batch, k].

    Missing values are NaN; the graph imputes, shrinks, transforms, scales, projects and compares with the
    centres as scaling.py and segments.py do. DISTANCE is Euclidean, to each cluster's centre in the
    projected space. SEGMENT k means newcomers.
    """
    graph = OnnxGraph()
    scaled = _scaled(graph, model)
    projected = graph.node("MatMul", scaled, graph.constant("components_T", model.components.T))
    points = graph.node("Sub", projected, graph.constant("offset", model.offset))
    gap = graph.node(
        "Sub",
        graph.node("Unsqueeze", points, graph.constant("axis_1", np.array([1]))),
        graph.constant("centres", model.centres[None]),
    )
    squared = graph.node(
        "ReduceSum", graph.node("Mul", gap, gap), graph.constant("axis_2", np.array([2])), keepdims=0
    )
    graph.node("Sqrt", squared, output="DISTANCE")
    nearest = graph.node("ArgMin", "DISTANCE", axis=1, keepdims=1)
    num_events = graph.node(
        "Gather", "FEATURE", graph.constant("events_at", np.array([model.spec.index("num_events")])), axis=1
    )
    # NaN compares as false, so that a row whose number of events is missing is a newcomer.
    known = graph.node(
        "GreaterOrEqual", num_events, graph.constant("min_events", np.float32(model.min_events))
    )
    newcomers = graph.constant("newcomers", np.array([[model.num_clusters]]))
    graph.node("Where", known, nearest, newcomers, output="SEGMENT")
    num_features = len(model.spec.features)
    graph.save(
        path,
        name="segment",
        inputs={"FEATURE": (np.float32, ["batch", num_features])},
        outputs={
            "SEGMENT": (np.int64, ["batch", 1]),
            "DISTANCE": (np.float32, ["batch", model.num_clusters]),
        },
    )


def _scaled(graph: OnnxGraph, model: SegmentModel) -> str:
    scaling = model.scaling
    zero, bound = graph.constant("zero", np.float32(0)), graph.constant("bound", BOUND)
    missing = graph.node("IsNaN", "FEATURE")
    present = graph.node("Where", missing, zero, "FEATURE")
    bounded = graph.node("Clip", present, graph.constant("minus_bound", -BOUND), bound)
    support = graph.constant("support", np.maximum(scaling.support, 0))
    counted = graph.node("Max", graph.node("Gather", bounded, support, axis=1), zero)
    prior = graph.constant("prior", scaling.prior)
    trust = graph.node(
        "Div", counted, graph.node("Add", counted, graph.constant("prior_events", scaling.prior_events))
    )
    share = graph.node("Add", prior, graph.node("Mul", trust, graph.node("Sub", bounded, prior)))
    rooted = graph.node("Sqrt", graph.node("Max", share, zero))
    one = graph.constant("one", np.float32(1))
    logged = graph.node("Log", graph.node("Add", graph.node("Max", bounded, zero), one))
    bent = graph.node("Where", graph.constant("is_log", scaling.is_log), logged, bounded)
    bent = graph.node("Where", graph.constant("is_share", scaling.is_share), rooted, bent)
    filled = graph.node("Where", missing, graph.constant("fill", scaling.fill), bent)
    centred = graph.node("Sub", filled, graph.constant("centre", scaling.centre))
    standard = graph.node("Div", centred, graph.constant("scale", scaling.scale))
    limited = graph.node(
        "Clip", standard, graph.constant("minus_limit", -LIMIT), graph.constant("limit", LIMIT)
    )
    return graph.node("Mul", limited, graph.constant("weight", scaling.weight))
