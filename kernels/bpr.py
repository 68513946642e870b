"""Bayesian personalised ranking: factors that put what a user took before what the user did not."""

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
    """Passes over all interactions (CSR [users, items]: int64, int32, strictly ascending within a row).

    Each interaction is one step against an item drawn from those that its user has never seen (on the CPU
    from a part of at least 64 of the items, dealt anew for every pass); a user who has seen every item is
    passed over. Factors are of a type in STORAGES, [users, f] and [items, f]; the answer too.
    `after_epoch(epoch, share)`, the share of interactions above their negative before their step, stops on a
    true answer. Equal seeds give equal bits on the CPU, whatever the number of threads; on
    a GPU groups of lanes race.

    Raises: TypeError or ValueError naming argument, value and rule; DivergenceError naming the epoch;
    BackendUnavailable. Source: Rendle et al. (2009).
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
