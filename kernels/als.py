"""Alternating least squares: the factors of one side given the other's, and whole epochs of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopsight.kernels.dispatch import body
from shopsight.kernels.errors import DivergenceError
from shopsight.kernels.rows import Factors, Rows, check_array, check_at_least, check_factors, check_rows

SOLVERS = ("exact", "cg")
_CURE = "raise the regularization or lower the weights"
AfterEpoch = Callable[[int, Callable[[], tuple[Factors, Factors]]], bool]


def half_step(
    rows: Rows,
    factors: Factors,
    unobserved_weight: float,
    *,
    solver: str = "exact",
    num_cg_steps: int = 3,
    initial: Factors | None = None,
    gramian: NDArray[np.float64] | None = None,
    backend: str = "auto",
) -> Factors:
    """The factors of every row that minimise the objective of `kernels.rows.Rows`; empty rows get zeros.

    Args:
        rows: the observations, CSR (kernels/rows.py).
        factors: the other side's [columns, f], float32, float16 or bfloat16. The answer has this dtype;
            arithmetic is float32 throughout.
        unobserved_weight: weight of (x·y)² over all columns, at least 0.
        solver: "exact" (Cholesky of the primal or the dual, whichever is cheaper for the row) or "cg"
            (preconditioned conjugate gradients from `initial`, or from zeros).
        num_cg_steps: steps a row of "cg".
        initial: [rows, f], dtype of `factors`.
        gramian: factorsᵀ·factors float64 [f, f], where the caller keeps it.
        backend: "auto", "cpu" or "cuda".

    Raises:
        TypeError, ValueError: an argument breaks the contract, or a row's system is not positive definite;
            the message names argument or row.
        BackendUnavailable: the backend asked for cannot be had.

    Sources: Hu, Koren, Volinsky (2008); Rendle, Krichene, Zhang, Koren (2022); Takács, Pilászy, Tikk (2011)
    for the conjugate gradients.
    """
    check_factors(factors)
    check_rows(rows, len(factors))
    _check_solver(solver, num_cg_steps)
    check_at_least(unobserved_weight, 0, "unobserved_weight")
    if initial is not None:
        check_factors(initial, "initial")
        check_array(initial, factors.dtype.type, (rows.num_rows, factors.shape[1]), "initial")
    if gramian is not None:
        check_array(gramian, np.float64, (factors.shape[1],) * 2, "gramian")
    return check_solved(
        body("als", backend).half_step(
            rows, factors, unobserved_weight, solver, num_cg_steps, initial, gramian
        )
    )


def gramian(factors: Factors) -> NDArray[np.float64]:
    """factorsᵀ·factors, float64 [f, f], on the CPU: to keep for folding in, or to sum over blocks of factors.

    Shapes, dtypes and what it raises: `half_step`.
    """
    from shopsight.kernels.cpu.basis import gramian_of

    check_factors(factors)
    return gramian_of(factors.astype(np.float32, copy=False))


def alternate(
    user_rows: Rows,
    item_rows: Rows,
    user_factors: Factors,
    item_factors: Factors,
    unobserved_weight: float,
    *,
    solver: str = "exact",
    num_cg_steps: int = 3,
    num_epochs: int = 1,
    first_epoch: int = 0,
    after_epoch: AfterEpoch | None = None,
    backend: str = "auto",
) -> tuple[Factors, Factors]:
    """`num_epochs` times both half steps, users first, with everything kept on the device meanwhile.

    `after_epoch(epoch, fetch)` is called after each epoch, counted from `first_epoch`; `fetch()` gives
    (user_factors, item_factors) and costs a copy from the device only when called; a true answer stops.
    Shapes: user_rows over [users, items], item_rows its transpose, user_factors [users, f], item_factors
    [items, f], both of one dtype. Raises what `half_step` raises about its
    arguments, and DivergenceError naming the epoch.
    """
    for name, factors in (("user_factors", user_factors), ("item_factors", item_factors)):
        check_factors(factors, name)
    if user_factors.shape[1] != item_factors.shape[1] or user_factors.dtype != item_factors.dtype:
        raise ValueError("user_factors, item_factors: must agree in number of factors and in dtype")
    check_rows(user_rows, len(item_factors), "user_rows")
    check_rows(item_rows, len(user_factors), "item_rows")
    for name, rows, factors in (("user", user_rows, user_factors), ("item", item_rows, item_factors)):
        if rows.num_rows != len(factors):
            raise ValueError(f"{name}_factors: {len(factors)} rows must be {name}_rows' {rows.num_rows}")
    if len(user_rows.indices) != len(item_rows.indices):
        raise ValueError("item_rows: must be the transpose of user_rows, with as many entries")
    _check_solver(solver, num_cg_steps)
    check_at_least(unobserved_weight, 0, "unobserved_weight")
    check_at_least(num_epochs, 0, "num_epochs")
    training = body("als", backend).AlsTraining(
        user_rows, item_rows, user_factors, item_factors, unobserved_weight, solver, num_cg_steps
    )
    for epoch in range(first_epoch, first_epoch + num_epochs):
        try:
            training.run_epoch()
        except (FloatingPointError, ValueError) as error:
            raise DivergenceError(f"epoch {epoch}: {error}; {_CURE}") from None
        if after_epoch is not None and after_epoch(epoch, partial(_result, training, epoch)):
            break
    return _result(training, first_epoch + num_epochs - 1)


def check_solved(answer: Factors) -> Factors:
    """The factors that were solved for; raises DivergenceError naming the first row that is not finite."""
    if not np.isfinite(answer.sum(dtype=np.float64)) and not np.isfinite(answer).all():
        row = int(np.argwhere(~np.isfinite(answer))[0, 0])
        raise DivergenceError(f"the factors of row {row} are not finite; raise the regularization")
    return answer


def _result(training: Any, epoch: int) -> tuple[Factors, Factors]:
    users, items = training.result()
    for side, x in (("user", users), ("item", items)):
        if not np.isfinite(x.sum(dtype=np.float64)) and not np.isfinite(x).all():
            raise DivergenceError(f"epoch {epoch}: {side} factors are not finite; {_CURE}")
    return users, items


def _check_solver(solver: str, num_cg_steps: int) -> None:
    if solver not in SOLVERS:
        raise ValueError(f"solver={solver!r}: must be one of {', '.join(SOLVERS)}")
    check_at_least(num_cg_steps, 1, "num_cg_steps")
