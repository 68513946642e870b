"""The Python that has RAPIDS, where there is one: it imports, and translates queries, without a GPU."""

from __future__ import annotations

import importlib.util
import os
import sys

_VARIABLE = "SHOPSIGHT_RAPIDS_PYTHON"

RAPIDS_PYTHON = os.environ.get(_VARIABLE) or (
    sys.executable if importlib.util.find_spec("cudf_polars") else None
)
NO_RAPIDS = f"RAPIDS is not installed (${_VARIABLE} may name the Python of an environment that has it)"
