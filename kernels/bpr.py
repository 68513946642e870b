"""Bayesian personalised ranking (BPR): factors that rank a user's items above items not seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shopsight.kernels.dispatch import body
from shopsight.kernels.errors import DivergenceError
from shopsight.kernels.rows import Factors, Int32, Int64, check_at_least, check_csr, check_factors

AfterEpoch = Callable[[int, float], bool]


def train(
    indptr: Int64,
    indices: Int32,
    user_factors: Factors,
    item_factors: Factors,
    *,
    rate: float = 0.05,
    regularization: float = 0.01,
    num_epochs: int = 1,
    seed: int = 0,
    first_epoch: int = 0,
    after_epoch: AfterEpoch | None = None,
    backend: str = "auto",
) -> tuple[Factors, Factors]:
    """Return (user_factors, item_factors) after `num_epochs` passes over all interactions.

    Shapes: indptr int64 [users + 1] and indices int32 [entries] are a CSR matrix [users, items], strictly
    ascending within a row; user_factors is [users, f] and item_factors [items, f], in one type of STORAGES.
    Each interaction is one gradient step against a negative item, drawn uniformly from the items that its
    user has not seen. On the CPU it is drawn from a random part of the items, at least 64 of them, which
    changes with every pass. A user who has seen every item is skipped.

    `after_epoch(epoch, share)` gets the share of interactions that scored above their negative before their
    step; training stops when it returns True. On the CPU equal seeds give equal bits for any number of
    threads. On a GPU concurrent updates of one item race, so that results differ between calls, and users of
    more than 512 interactions are treated as `kernels.sgd.train` says.

    Raises TypeError or ValueError naming argument, value and rule; DivergenceError naming the epoch;
    BackendUnavailable. Source: Rendle, Freudenthaler, Gantner, Schmidt-Thieme (2009), "BPR: Bayesian
    Personalized Ranking from Implicit Feedback".
    """
    check_factors(user_factors, "user_factors")
    check_factors(item_factors, "item_factors")
    if user_factors.shape[1] != item_factors.shape[1] or user_factors.dtype != item_factors.dtype:
        raise ValueError("user_factors, item_factors: must agree in number of factors and in dtype")
    check_csr(indptr, indices, len(item_factors), "interactions")
    if len(indptr) != len(user_factors) + 1:
        raise ValueError(f"interactions.indptr: {len(indptr) - 1} rows must be {len(user_factors)} users")
    _check_distinct(indptr, indices)
    check_at_least(rate, 0, "rate")
    check_at_least(regularization, 0, "regularization")
    training = body("bpr", backend).BprTraining(indptr, indices, user_factors, item_factors)
    for epoch in range(first_epoch, first_epoch + num_epochs):
        training.run_pass(rate, regularization, seed, epoch)
        if after_epoch is not None and after_epoch(epoch, training.num_correct() / max(1, len(indices))):
            break
    users, items = training.result()
    if not (np.isfinite(users).all() and np.isfinite(items).all()):
        raise DivergenceError(f"factors are not finite after epoch {epoch}; lower rate={rate}")
    return users, items


def _check_distinct(indptr: Int64, indices: Int32) -> None:
    equal = np.flatnonzero(indices[1:] == indices[:-1]) + 1
    inside = equal[indptr[np.searchsorted(indptr, equal, side="right") - 1] != equal]
    if len(inside):
        row = int(np.searchsorted(indptr, inside[0], side="right") - 1)
        raise ValueError(f"interactions.indices: row {row} names an item twice; sum duplicates first")
