"""A factorisation small enough for every test: clustered tastes, and settings that find them."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from shopsight.training.recommend.mf.config import MFConfig

CONFIG = MFConfig(num_factors=12, num_epochs=6, regularization=0.01, backend="cpu")


def tastes():
    """Clustered tastes: training and held-out items, both CSR [400, 120]."""
    random = np.random.default_rng(0)
    scores = random.standard_normal((400, 4)) @ random.standard_normal((4, 120))
    liked = random.permuted(np.argsort(-scores, axis=1)[:, :16], axis=1)
    rows = np.arange(400)[:, None]

    def matrix(items):
        ones = np.ones(items.size, np.float32)
        return sparse.csr_matrix((ones, (np.repeat(rows, items.shape[1]), items.ravel())), (400, 120))

    return matrix(liked[:, :12]), matrix(liked[:, 12:])
