"""Settings of a matrix factorisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from shopsight.kernels.als import SOLVERS
from shopsight.kernels.rows import STORAGES
from shopsight.training.artifacts.plain_settings import take_plain_values


@dataclass(frozen=True)
class MFConfig:
    """Settings of a matrix factorisation; the defaults suit implicit feedback of a shop.

    objective: "observed" (Rendle et al. 2022: every pair has weight `unobserved_weight` and target 0, a seen
        pair weighs its value more, with target 1), "confidence" (Hu et al. 2008: a seen pair weighs its
        value, an unseen one `unobserved_weight`), or "explicit" (squared error of ratings, with biases).
    regularization, regularization_exponent: λ and ν; the penalty of a row of n entries is
        λ (n + unobserved_weight · columns)^ν.
    alpha: multiplies every value of user_items.
    check_every: epochs between two validations or checkpoints. patience: validations without a better
        figure before training stops. storage: "float32", "float16" or "bfloat16" factors; arithmetic is
        float32.
    memory_limit_gib: most device memory that a fit allocates beyond what the process holds already; 0 for the
        memory of the device. A fit that needs more runs by blocks.
    """

    num_factors: int = 64
    objective: Literal["observed", "confidence", "explicit"] = "observed"
    unobserved_weight: float = 0.1
    regularization: float = 0.003
    regularization_exponent: float = 1.0
    alpha: float = 1.0
    num_epochs: int = 16
    solver: str = "exact"
    num_cg_steps: int = 3
    initial_deviation: float = 0.1
    storage: Literal["float32", "float16", "bfloat16"] = "float32"
    validation_metric: Literal["recall", "ndcg"] = "ndcg"
    validation_k: int = 20
    validation_users: int = 10_000
    check_every: int = 1
    patience: int = 3
    seed: int = 0
    backend: str = "auto"
    memory_limit_gib: float = 0.0

    def __post_init__(self) -> None:
        take_plain_values(self)
        for name in ("num_factors", "num_epochs", "num_cg_steps", "validation_k", "check_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        for name in ("unobserved_weight", "regularization", "alpha", "initial_deviation", "memory_limit_gib"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name}={getattr(self, name)}: must be finite and not negative")
        if self.objective not in ("observed", "confidence", "explicit"):
            raise ValueError(f"objective={self.objective!r}: must be observed, confidence or explicit")
        if self.solver not in SOLVERS:
            raise ValueError(f"solver={self.solver!r}: must be one of {', '.join(SOLVERS)}")
        if self.storage not in STORAGES:
            raise ValueError(f"storage={self.storage!r}: must be one of {', '.join(STORAGES)}")

    @property
    def missing_weight(self) -> float:
        """The weight of a pair that was not seen: explicit ratings say nothing of it."""
        return 0.0 if self.objective == "explicit" else self.unobserved_weight
