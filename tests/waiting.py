"""How tests wait: on a condition, never for a time. A busy machine makes a test slow and not red."""

from __future__ import annotations

import time
from collections.abc import Callable

# A guard against a deadlock and no measure: nothing that makes progress reaches it, at whatever load.
HANG_SECONDS = 1800.0
_POLL_SECONDS = 0.05


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return once `condition` holds; raises AssertionError naming `what` where it never does."""
    end = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(_POLL_SECONDS)
