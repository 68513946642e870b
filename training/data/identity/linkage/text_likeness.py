"""Likeness of pairs of texts: after Jaro and Winkler, and by the number of edits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import OSA, JaroWinkler

_WORKERS = 2
_ROUNDING = 1e-6  # callers compare in float32


def similarities(first: list[str], second: list[str], at_least: float) -> NDArray[np.float32]:
    """Return the likeness [n], 0 to 1, of pairs of texts; 0 where it is below `at_least` (Winkler, 1990)."""
    return process.cpdist(
        first,
        second,
        scorer=JaroWinkler.similarity,
        score_cutoff=at_least - _ROUNDING,
        dtype=np.float32,
        workers=_WORKERS,
    )


def edits(first: list[str], second: list[str], at_most: int) -> NDArray[np.int32]:
    """Return the edits [n] between pairs of texts, by optimal string alignment; at_most + 1 for more."""
    return process.cpdist(
        first, second, scorer=OSA.distance, score_cutoff=at_most, dtype=np.int32, workers=_WORKERS
    )
