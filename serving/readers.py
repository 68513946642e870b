"""Checks that a model opens with the code that will serve it: its router, or onnxruntime."""

from __future__ import annotations

import importlib
from pathlib import Path

import onnxruntime

_CRITICAL_ONLY = 4


def open_router(folder: Path, name: str) -> list[str]:
    """Open a router's data as Triton will; return the problems."""
    try:
        module = importlib.import_module(f"shopsight.serving.routing.{name}")
        getattr(module, f"{name.capitalize()}Router")(folder, release="0")
    except Exception as error:  # readers are libraries too: tokenizers raises bare Exception
        return [_problem(name, "its router cannot open its data", error)]
    return []


def open_graph(path: Path, name: str) -> list[str]:
    """Open a graph as the server will; return the problems."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _CRITICAL_ONLY
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own types share no base but this
        return [_problem(name, "onnxruntime cannot open its graph", error)]
    return []


def _problem(name: str, what: str, error: Exception) -> str:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return f"{name}: {what} ({reason}); export {name} again"
