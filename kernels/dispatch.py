"""Find the module that implements an operation on the backend that was asked for."""

from __future__ import annotations

import importlib
from typing import Any

from shopsight.kernels.backend import resolve


def body(operation: str, backend: str) -> Any:
    """Return the module `cpu/<operation>` or `cuda/<operation>`; raises BackendUnavailable."""
    device = "cuda" if resolve(backend).name == "cuda" else "cpu"
    return importlib.import_module(f"shopsight.kernels.{device}.{operation}")
