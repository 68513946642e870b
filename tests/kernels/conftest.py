"""Kernels are tested without the float64 solves that would hide one that goes wrong."""

from __future__ import annotations

import numpy as np
import pytest

from shopsight.kernels import conditioning


@pytest.fixture(autouse=True)
def no_row_is_solved_in_float64(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave every row to the kernel, but where the float64 solves themselves are tested."""
    if request.path.stem != "test_conditioning":
        monkeypatch.setattr(conditioning, "MAX_CONDITION", np.inf)
