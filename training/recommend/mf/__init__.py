"""Matrix factorisation: fit, recommend, explain, save, load; in core, by blocks, resumed after a kill."""

from shopsight.kernels.errors import DivergenceError
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.model import MatrixFactorization

__all__ = ["DivergenceError", "MFConfig", "MatrixFactorization"]
