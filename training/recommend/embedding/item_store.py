"""Storage of served item vectors: float32, float16, or int8 with a scale per item."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def stored(vectors: Float32, dtype: str) -> tuple[NDArray[Any], Float32 | None]:
    """Item vectors [items, dim] as `dtype`, and for int8 the scale of each item, float32 [items].

    int8 is symmetric: a vector's largest entry becomes ±127.
    """
    if dtype != "int8":
        return vectors.astype(dtype), None
    scale = np.maximum(np.abs(vectors).max(axis=1), np.float32(1e-12)) / np.float32(127)
    return np.rint(vectors / scale[:, None]).astype(np.int8), scale.astype(np.float32)


def restored(vectors: NDArray[Any], scale: Float32 | None) -> Float32:
    """What the graph scores with, float32 [items, dim]."""
    whole = vectors.astype(np.float32)
    return whole if scale is None else np.asarray(whole * scale[:, None], dtype=np.float32)
