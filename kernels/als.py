"""Alternating least squares (ALS): one half step, and whole epochs of two half steps each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopsight.kernels.conditioning import HardRows
from shopsight.kernels.dispatch import body
from shopsight.kernels.errors import DivergenceError
from shopsight.kernels.rows import Factors, Rows, check_array, check_at_least, check_factors, check_rows

SOLVERS = ("exact", "cg")
_REMEDY = "raise the regularization or lower the weights"
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
    """Return the factors [rows, f] that minimise the objective of `kernels.rows.Rows`, row by row.

    A row without entries gets zeros. The result has the dtype of `factors`; arithmetic is float32. With
    "exact", rows whose condition may exceed 1e6 are solved again in float64, one by one (conditioning.py).

    Args:
        rows: the observations in CSR form (kernels/rows.py).
        factors: factors of the other side [columns, f], float32, float16 or bfloat16.
        unobserved_weight: weight of (x·y)² over all columns, at least 0.
        solver: "exact" (Cholesky of the primal or the dual system, whichever is cheaper for the row) or "cg"
            (preconditioned conjugate gradients, started from `initial` or from zeros).
        num_cg_steps: number of conjugate-gradient steps a row, read by "cg" alone.
        initial: starting factors [rows, f] of "cg", in the dtype of `factors`.
        gramian: factorsᵀ·factors, float64 [f, f], if the caller has it already; else it is computed.
        backend: "auto", "cpu" or "cuda".

    Raises:
        TypeError, ValueError: an argument breaks its rule, or the system of a row is not positive definite;
            the message names the argument or the row.
        DivergenceError: the factors of a row are not finite; the message names the row.
        BackendUnavailable: the backend asked for is not available.

    Sources: Hu, Koren, Volinsky (2008), "Collaborative Filtering for Implicit Feedback Datasets"; Rendle,
    Krichene, Zhang, Koren (2022), "Revisiting the Performance of iALS on Item Recommendation Benchmarks";
    Takács, Pilászy, Tikk (2011), "Applications of the Conjugate Gradient Method for Implicit Feedback
    Collaborative Filtering".
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
    answer = check_solved(
        body("als", backend).half_step(
            rows, factors, unobserved_weight, solver, num_cg_steps, initial, gramian
        )
    )
    if solver != "exact":
        return answer
    return HardRows(factors, unobserved_weight, gramian).solved(rows, answer)


def gramian(factors: Factors) -> NDArray[np.float64]:
    """Return factorsᵀ·factors, float64 [f, f], of factors [columns, f] in a type of STORAGES, on the CPU.

    A caller keeps it for folding in, or sums it over blocks of factors. Raises TypeError or ValueError unless
    `factors` is a finite, C-contiguous matrix in one of STORAGES.
    """
    from shopsight.kernels.cpu.basis import gramian_of

    check_factors(factors)
    return gramian_of(factors.astype(np.float32, copy=False))


class Alternation:
    """Alternating least squares over many epochs of two half steps each, users first.

    The rows are checked, planned and copied to the device once; `run` may be called again to go on.
    """

    def __init__(
        self,
        user_rows: Rows,
        item_rows: Rows,
        user_factors: Factors,
        item_factors: Factors,
        unobserved_weight: float,
        *,
        solver: str = "exact",
        num_cg_steps: int = 3,
        backend: str = "auto",
    ) -> None:
        """Check and load the data.

        Shapes: user_rows is a CSR matrix [users, items] and item_rows its transpose; user_factors is
        [users, f] and item_factors [items, f], both in one type of STORAGES. Raises TypeError, ValueError and
        BackendUnavailable as `half_step` does. Source: Hu, Koren, Volinsky (2008).
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
        self._training = body("als", backend).AlsTraining(
            user_rows, item_rows, user_factors, item_factors, unobserved_weight, solver, num_cg_steps
        )

    def run(
        self, num_epochs: int, *, first_epoch: int = 0, after_epoch: AfterEpoch | None = None
    ) -> tuple[Factors, Factors]:
        """Return (user_factors, item_factors) after `num_epochs` further epochs.

        All of it stays on the device between epochs. `after_epoch(epoch, fetch)` is called after each epoch,
        with epochs counted from `first_epoch`; `fetch()` returns (user_factors, item_factors), copied from
        the device; training stops when the call returns True. A later `run` goes on from the factors that
        this one returned, bit for bit as a new object given these factors would.

        Raises TypeError or ValueError for a number of epochs below 0, and DivergenceError naming the epoch.
        """
        check_at_least(num_epochs, 0, "num_epochs")
        for epoch in range(first_epoch, first_epoch + num_epochs):
            try:
                self._training.run_epoch()
            except (FloatingPointError, ValueError) as error:
                raise DivergenceError(f"epoch {epoch}: {error}; {_REMEDY}") from None
            if after_epoch is not None and after_epoch(epoch, partial(_result, self._training, epoch)):
                break
        found = _result(self._training, first_epoch + num_epochs - 1)
        self._training.go_on_from_result()
        return found


def check_solved(answer: Factors) -> Factors:
    """Return solved factors [rows, f] as they are; raise DivergenceError naming the first row not finite."""
    if not np.isfinite(answer.sum(dtype=np.float64)) and not np.isfinite(answer).all():
        row = int(np.argwhere(~np.isfinite(answer))[0, 0])
        raise DivergenceError(f"the factors of row {row} are not finite; raise the regularization")
    return answer


def _result(training: Any, epoch: int) -> tuple[Factors, Factors]:
    users, items = training.result()
    for side, x in (("user", users), ("item", items)):
        if not np.isfinite(x.sum(dtype=np.float64)) and not np.isfinite(x).all():
            raise DivergenceError(f"epoch {epoch}: {side} factors are not finite; {_REMEDY}")
    return users, items


def _check_solver(solver: str, num_cg_steps: int) -> None:
    if solver not in SOLVERS:
        raise ValueError(f"solver={solver!r}: must be one of {', '.join(SOLVERS)}")
    check_at_least(num_cg_steps, 1, "num_cg_steps")
