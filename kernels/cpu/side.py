"""One side of a half step: solve every row against factors in the eigenbasis, on all threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from shopsight.kernels.cpu.cg import improve_rows
from shopsight.kernels.cpu.exact import solve_rows
from shopsight.kernels.cpu.lanes import LANES
from shopsight.kernels.cpu.lockstep import solve_lockstep
from shopsight.kernels.cpu.plan import Plan, plan_cg, plan_exact
from shopsight.kernels.cpu.schedule import run_balanced, run_together
from shopsight.kernels.reference.fold_in import fold_in as fold_in_float64
from shopsight.kernels.rows import Float32, Rows

Array = np.ndarray[Any, Any]


class Side:
    """The rows of one side, planned once and solved in every epoch against `num_factors` factors."""

    def __init__(self, rows: Rows, num_factors: int, solver: str) -> None:
        self._rows, self._num_factors, self._solver = rows, num_factors, solver
        self._plan = plan_cg(rows) if solver == "cg" else plan_exact(rows, num_factors)
        filled = np.diff(rows.indptr) > 0
        self._empty = np.flatnonzero(~filled)
        self._least = float(rows.regularization[filled].min(initial=np.inf))

    def solve(self, rotated: Float32, spectrum: Float32, num_steps: int, x: Float32) -> None:
        """Write the rows' factors to `x`, padded as `rotated`; "cg" takes `num_steps` starting from `x`."""
        failed = np.zeros(self._rows.num_rows, np.bool_)
        x[self._empty] = 0
        if self._solver == "cg":
            self._improve(rotated.reshape(-1), spectrum, num_steps, x, failed)
        else:
            self._solve_exactly(rotated.reshape(-1), spectrum, x, failed)
        for row in np.flatnonzero(failed):
            x[row] = _solve_in_float64(self._rows, int(row), rotated, spectrum)

    def _solve_exactly(self, table: Float32, spectrum: Float32, solved: Float32, failed: Array) -> None:
        plan = self._plan
        if not self._is_safe_to_divide_by(spectrum):
            plan = plan_exact(self._rows, self._num_factors, False)

        def solve_dual(begin: int, end: int) -> None:
            first, last = begin * LANES, min(end * LANES, plan.num_dual)
            solve_lockstep(first, last, plan.order, plan.most, self._rows, table, spectrum, solved, failed)

        def solve_single(begin: int, end: int) -> None:
            first, last = plan.num_dual + begin, plan.num_dual + end
            solve_rows(first, last, plan.order, *self._rows, table, spectrum, solved, failed)

        if len(plan.long_rows):
            plan.long_rows.solve(table, spectrum, solved, failed)
        run_together([(solve_dual, plan.dual_costs), (solve_single, plan.single_costs)])

    def _is_safe_to_divide_by(self, spectrum: Float32) -> bool:
        """Return whether the dual, which divides by the diagonal, keeps float32's accuracy in every row."""
        return float(spectrum.min()) + self._least > 1e-12 * (float(spectrum.max()) + self._least)

    def _improve(
        self, table: Float32, spectrum: Float32, num_steps: int, solved: Float32, failed: Array
    ) -> None:
        plan: Plan = self._plan

        def task(begin: int, end: int) -> None:
            improve_rows(begin, end, plan.order, *self._rows, table, spectrum, num_steps, solved, failed)

        if len(plan.long_rows):
            plan.long_rows.improve(table, spectrum, num_steps, solved, failed)
        run_balanced(task, plan.single_costs)


def _solve_in_float64(rows: Rows, row: int, rotated: Float32, spectrum: Float32) -> Float32:
    """Return a row's factors, solved in float64; raises ValueError if its system is indefinite there too."""
    entries = slice(int(rows.indptr[row]), int(rows.indptr[row + 1]))
    indptr = np.array([0, entries.stop - entries.start])
    try:
        answer = fold_in_float64(
            indptr,
            rows.indices[entries],
            rows.weight[entries],
            rows.target[entries],
            rotated,
            rows.regularization[row : row + 1],
            1.0,
            np.diag(spectrum),
        )
    except np.linalg.LinAlgError:
        lightest = float(rows.weight[entries].min())
        raise ValueError(
            f"rows: row {row} (lightest weight {lightest:g}, regularization {rows.regularization[row]:g}) "
            "has a system that is not positive definite; raise the regularization or drop negative weights"
        ) from None
    return np.asarray(answer[0], dtype=np.float32)
