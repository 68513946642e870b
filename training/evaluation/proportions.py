"""Confidence intervals of proportions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_Z = 1.959963984540054  # 95 %


def wilson(num_converted: int, num_exposed: int) -> tuple[float, float]:
    """Return (low, high): the 95 % score interval of num_converted / num_exposed (Wilson, 1927).

    Raises ZeroDivisionError if nobody was exposed.
    """
    if not num_exposed:
        raise ZeroDivisionError("the share of nobody has no interval")
    low, high = wilson_intervals(np.array([float(num_converted)]), np.array([float(num_exposed)]))
    return float(low[0]), float(high[0])


def wilson_intervals(
    num_converted: NDArray[np.float64], num_exposed: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (low, high), float64 [n] each, of many proportions, as `wilson`; NaN where a count is NaN."""
    share, z2 = num_converted / num_exposed, _Z**2 / num_exposed
    centre = (share + z2 / 2) / (1 + z2)
    reach = np.sqrt(share * (1 - share) * z2 + z2**2 / 4) / (1 + z2)
    return np.maximum(0.0, centre - reach), np.minimum(1.0, centre + reach)
