"""The factorisation of a shop's preferences with the settings of the recommender."""

from __future__ import annotations

from pathlib import Path

from scipy.sparse import csr_matrix

from shopsight.serving.progress import Progress, silent
from shopsight.training.recommend.checkpoint import Choice
from shopsight.training.recommend.config import RecommendConfig
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.model import MatrixFactorization


def fit(
    user_items: csr_matrix,
    choice: Choice,
    config: RecommendConfig,
    progress: Progress = silent,
    checkpoint: Path | None = None,
) -> MatrixFactorization:
    """Fit the factorisation with chosen settings, going on from `checkpoint` where there is one."""
    settings = MFConfig(
        num_factors=config.factors,
        objective="observed",
        unobserved_weight=choice.unobserved_weight,
        regularization=choice.regularization,
        regularization_exponent=config.regularization_exponent,
        num_epochs=config.iterations,
        seed=config.seed,
        **vars(config.computation),
    )
    return MatrixFactorization(settings).fit(user_items, checkpoint=checkpoint, progress=progress)
