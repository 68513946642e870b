"""Matrix factorisation: fit (in memory or by blocks, resumable), recommend, explain, save and load.

The model is imported when its name is first used: settings are read by programs that train nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shopsight.kernels.errors import DivergenceError
from shopsight.training.recommend.mf.config import MFConfig

if TYPE_CHECKING:
    from shopsight.training.recommend.mf.model import MatrixFactorization

__all__ = ["DivergenceError", "MFConfig", "MatrixFactorization"]


def __getattr__(name: str) -> Any:
    if name != "MatrixFactorization":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from shopsight.training.recommend.mf.model import MatrixFactorization

    return MatrixFactorization
