"""Figures that cannot be computed, as for no customers: None with the reason instead of a number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_INTERVAL = {"value", "low", "high"}


def undefined(reason: str) -> dict[str, Any]:
    """Return a figure without value and interval, with the reason."""
    return {"value": None, "low": None, "high": None, "reason": reason}


def share(happened: NDArray[np.bool_]) -> float:
    """Return the share of true entries of bool [n]; NaN if there is no entry."""
    return float(happened.mean()) if happened.size else math.nan


def without_nan(figures: Any, reason: str) -> Any:
    """Return figures with None for every NaN; an interval whose value is NaN gets the reason.

    figures: JSON-ready data, with mappings and lists nested to any depth.
    """
    if isinstance(figures, Mapping):
        value = figures.get("value")
        if set(figures) >= _INTERVAL and isinstance(value, float) and math.isnan(value):
            return {**figures, **undefined(reason)}
        return {name: without_nan(inner, reason) for name, inner in figures.items()}
    if isinstance(figures, list | tuple):
        return [without_nan(inner, reason) for inner in figures]
    return None if isinstance(figures, float) and math.isnan(figures) else figures
