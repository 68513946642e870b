"""Alternating least squares on the CPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.cpu.conjugate import improve_rows
from kernels.cpu.exact import solve_rows
from kernels.cpu.schedule import one_blas_thread, run_balanced
from kernels.cpu.vector import WIDTH
from kernels.reference.fold_in import fold_in as solve_in_float64
from kernels.rows import Factors, Float32, Rows

Float64 = NDArray[np.float64]
_GRAMIAN_ROWS = 2048


def half_step(
    rows: Rows,
    factors: Factors,
    unobserved_weight: float,
    solver: str,
    num_cg_steps: int,
    initial: Factors | None,
    gramian: Float64 | None = None,
) -> Factors:
    """One side's factors given the other's; the contract is `kernels.als.half_step`."""
    y = factors.astype(np.float32, copy=False)
    basis, spectrum = eigenbasis(y, unobserved_weight, gramian)
    rotated = multiply(y, basis)
    start = None if initial is None else multiply(initial.astype(np.float32, copy=False), basis)
    solved = solve_side(rows, rotated, spectrum, solver, num_cg_steps, start)
    answer: Factors = multiply(solved, basis.T).astype(factors.dtype, copy=False)
    return answer


class AlsTraining:
    """Both sides over many epochs; the contract is `kernels.als.alternate`.

    Scores do not change when both factor matrices turn together, so each half step only turns the fixed
    side into its Gramian's eigenbasis and solves the other there; `result` turns both back.
    """

    def __init__(
        self,
        user_rows: Rows,
        item_rows: Rows,
        user_factors: Factors,
        item_factors: Factors,
        unobserved_weight: float,
        solver: str,
        num_cg_steps: int,
    ) -> None:
        self._rows = (user_rows, item_rows)
        self._solve = (unobserved_weight, solver, num_cg_steps)
        self._dtype = user_factors.dtype
        padding = ((0, 0), (0, padded(user_factors.shape[1]) - user_factors.shape[1]))
        self._factors: list[Factors] = [np.pad(x, padding) for x in (user_factors, item_factors)]
        self._turned = np.eye(user_factors.shape[1])

    def run_epoch(self) -> None:
        """Solve the users against the items, then the items against the users."""
        unobserved_weight, solver, num_steps = self._solve
        num_factors = len(self._turned)
        for solved, fixed in ((0, 1), (1, 0)):
            y = self._factors[fixed].astype(np.float32, copy=False)
            basis, spectrum = eigenbasis(y[:, :num_factors], unobserved_weight, None)
            square = np.zeros((basis.shape[1],) * 2, np.float32)
            square[:num_factors] = basis
            rotated = multiply(y, square) if unobserved_weight else y
            start = self._factors[solved].astype(np.float32, copy=False)
            if solver == "cg" and unobserved_weight:
                start = multiply(start, square)
            self._turned = self._turned @ basis[:, :num_factors].astype(np.float64)
            self._factors[fixed] = rotated.astype(self._dtype, copy=False)
            x = solve_side(self._rows[solved], rotated, spectrum, solver, num_steps, start)
            self._factors[solved] = x.astype(self._dtype, copy=False)
            if not np.isfinite(x.sum(dtype=np.float64)):
                raise FloatingPointError(f"{('user', 'item')[solved]} factors are not finite")

    def result(self) -> tuple[Factors, Factors]:
        """User and item factors in the basis they started from."""
        num_factors = len(self._turned)
        back = self._turned.T.astype(np.float32)
        users, items = (
            multiply(x[:, :num_factors].astype(np.float32, copy=False), back).astype(self._dtype, copy=False)
            for x in self._factors
        )
        return users, items


def solve_side(
    rows: Rows, rotated: Float32, spectrum: Float32, solver: str, num_steps: int, start: Float32 | None
) -> Float32:
    """All rows against factors that are already in the eigenbasis; float32 [rows, size]."""
    solved = np.empty((rows.num_rows, len(spectrum)), np.float32)
    failed = np.zeros(rows.num_rows, np.bool_)
    table = rotated.reshape(-1)
    if solver == "cg":
        solved[:] = 0 if start is None else start
        costs = np.diff(rows.indptr) + 4.0

        def task(begin: int, end: int) -> None:
            improve_rows(begin, end, *rows, table, spectrum, num_steps, solved, failed)
    else:
        costs = _costs(np.diff(rows.indptr), len(spectrum))

        def task(begin: int, end: int) -> None:
            solve_rows(begin, end, *rows, table, spectrum, solved, failed)

    run_balanced(task, costs)
    for row in np.flatnonzero(failed):
        solved[row] = _solve_carefully(rows, int(row), rotated, spectrum)
    return solved


def multiply(x: Float32, square: Float32) -> Float32:
    """x @ square, in blocks of rows on our own threads.

    OpenBLAS's idle threads go on spinning after a call, and would take a core from the rows that follow.
    """
    product = np.empty((len(x), square.shape[1]), np.float32)

    def task(begin: int, end: int) -> None:
        np.matmul(x[begin:end], square, out=product[begin:end])

    with one_blas_thread():
        run_balanced(task, np.ones(len(x)))
    return product


def padded(num_factors: int) -> int:
    """The next multiple of the vector code's width."""
    return -(-num_factors // WIDTH) * WIDTH


def gramian_of(y: Float32) -> Float64:
    """yᵀy, summed in float64 over blocks that BLAS multiplies in float32."""
    starts = range(0, len(y), _GRAMIAN_ROWS)
    parts = np.empty((len(starts), y.shape[1], y.shape[1]), np.float32)

    def task(first: int, last: int) -> None:
        for number in range(first, last):
            block = y[starts[number] : starts[number] + _GRAMIAN_ROWS]
            np.matmul(block.T, block, out=parts[number])

    with one_blas_thread():
        run_balanced(task, np.ones(len(starts)))
    return np.asarray(parts.sum(axis=0, dtype=np.float64))


def eigenbasis(y: Float32, unobserved_weight: float, gramian: Float64 | None) -> tuple[Float32, Float32]:
    """Q [f, size] and the diagonal of unobserved_weight·QᵀGQ [size], padded with zeros and ones."""
    num_factors = y.shape[1]
    size = padded(num_factors)
    basis, spectrum = np.zeros((num_factors, size), np.float32), np.ones(size, np.float32)
    if unobserved_weight == 0:
        basis[:, :num_factors], spectrum[:num_factors] = np.eye(num_factors), 0
        return basis, spectrum
    with one_blas_thread():  # small problems: OpenBLAS's second thread would only wait
        values, vectors = np.linalg.eigh(gramian_of(y) if gramian is None else gramian)
    basis[:, :num_factors] = vectors
    spectrum[:num_factors] = unobserved_weight * np.maximum(values, 0)
    return basis, spectrum


def _costs(num_entries: NDArray[np.int64], size: int) -> Float64:
    """Multiply-adds of each row's cheaper form, with a floor for its overhead."""
    k = num_entries.astype(np.float64)
    return np.minimum(k * k * size + k**3 / 3, k * size**2 + size**3 / 3) + 64 * size


def _solve_carefully(rows: Rows, row: int, rotated: Float32, spectrum: Float32) -> Float32:
    """A row whose system float32 took for indefinite, again in float64; raises if that is so."""
    entries = slice(int(rows.indptr[row]), int(rows.indptr[row + 1]))
    indptr = np.array([0, entries.stop - entries.start])
    try:
        answer = solve_in_float64(
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
