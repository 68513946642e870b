"""Matrix factorisation: fit (in memory or by blocks, resumable), recommend, explain, save and load."""

from shopsight.kernels.errors import DivergenceError
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.model import MatrixFactorization

__all__ = ["DivergenceError", "MFConfig", "MatrixFactorization"]
