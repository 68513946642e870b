"""Confidence intervals of proportions."""

from __future__ import annotations

import numpy as np

_Z = 1.959963984540054  # 95 %


def wilson(num_converted: int, num_exposed: int) -> tuple[float, float]:
    """Return (low, high): the 95 % score interval of num_converted / num_exposed (Wilson, 1927)."""
    share, z2 = num_converted / num_exposed, _Z**2 / num_exposed
    centre = (share + z2 / 2) / (1 + z2)
    reach = float(np.sqrt(share * (1 - share) * z2 + z2**2 / 4)) / (1 + z2)
    return max(0.0, centre - reach), min(1.0, centre + reach)
