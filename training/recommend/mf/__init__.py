"""Matrix factorisation: fit, recommend, explain, save, load; in core, by blocks, resumed after a kill."""

from shopsight.training.recommend.mf.model import MatrixFactorization
from shopsight.training.recommend.mf.objective import MFConfig

__all__ = ["MFConfig", "MatrixFactorization"]
