"""Weights that fade with every step back in a customer's history."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def check_half_life(half_life: float, name: str = "half_life") -> None:
    """Raise ValueError unless the half-life, in steps, is above 0; infinity means that nothing fades."""
    if not half_life > 0:
        raise ValueError(
            f"{name}={half_life}: must be above 0 steps, or infinite for weights that do not fade"
        )


def fading(steps_back: NDArray[np.int64], half_life: float) -> NDArray[np.float32]:
    """Return 2^(-steps / half_life) of each entry, float32 of the same shape.

    steps_back: int64 of 0 or more; the latest event of a history has 0. half_life: steps after which a weight
    is halved, so that each step multiplies it by 2^(-1 / half_life): .5 for 1, .71 for 2. Raises ValueError
    for a half-life that is not above 0.
    """
    check_half_life(half_life)
    return np.exp2(-steps_back / half_life).astype(np.float32)
