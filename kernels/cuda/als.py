"""ALS on the GPU: every row solved in the eigenbasis of the Gramian by the kernel that suits its length."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kernels.als import DivergenceError
from kernels.cuda import runtime
from kernels.cuda.launches import cg_launch, dual_launch, partial_floats, primal_launch, start
from kernels.cuda.layout import Layout, to_device, to_host
from kernels.cuda.plan import PRIMAL, Interactions, load_interactions
from kernels.cuda.runtime import Device
from kernels.reference.fold_in import fold_in as solve_in_float64
from kernels.rows import Factors, Rows


def half_step(
    rows: Rows,
    factors: Factors,
    unobserved_weight: float,
    solver: str,
    num_cg_steps: int,
    initial: Factors | None,
    gramian: npt.NDArray[np.float64] | None = None,
) -> Factors:
    """One side's factors given the other's; the contract is `kernels.als.half_step`."""
    device, layout = runtime.device(), Layout.of(factors)
    side = load_interactions(device, layout, rows, use_cg=solver == "cg")
    y = to_device(device, layout, factors)
    rotation, spectrum = eigenbasis(device, layout, y, unobserved_weight, gramian)
    if solver == "cg" and initial is not None:
        x = rotate(
            device, layout, to_device(device, layout, initial.astype(layout.dtype, copy=False)), rotation
        )
    else:
        x = device.xp.zeros((side.num_rows, layout.stored), layout.dtype)
    failed = device.xp.zeros(side.num_rows, np.int8)
    steps = num_cg_steps if solver == "cg" else 0
    solve_rows(device, layout, side, rotate(device, layout, y, rotation), spectrum, x, failed, steps)
    solved = to_host(device, layout, rotate(device, layout, x, device.xp.ascontiguousarray(rotation.T)))
    for row in np.flatnonzero(failed if device.xp is np else failed.get()):
        solved[row] = _solve_carefully(rows, int(row), factors, unobserved_weight)
    return solved


class AlsTraining:
    """Both sides over many epochs, on the device, which an epoch does not wait for.

    Scores do not change when both factor matrices turn together, so each half step only turns the fixed side
    into its Gramian's eigenbasis and solves the other side there; `result` turns both back.
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
        self._device, self._layout = runtime.device(), Layout.of(user_factors)
        self._unobserved_weight = unobserved_weight
        self._cg_steps = num_cg_steps if solver == "cg" else 0
        self._num_epochs = 0
        self._sides = tuple(
            load_interactions(self._device, self._layout, rows, use_cg=solver == "cg")
            for rows in (user_rows, item_rows)
        )
        self._factors = [to_device(self._device, self._layout, x) for x in (user_factors, item_factors)]
        self._failed = [self._device.xp.zeros(side.num_rows, np.int8) for side in self._sides]
        self._turned = self._device.xp.eye(self._layout.num_factors, dtype=np.float64)

    def run_epoch(self) -> None:
        """Solves the users against the items, then the items against the users."""
        self._half_step(solved=0, fixed=1)
        self._half_step(solved=1, fixed=0)
        self._num_epochs += 1

    def _half_step(self, solved: int, fixed: int) -> None:
        device, layout, factors = self._device, self._layout, self._factors
        rotation, spectrum = eigenbasis(device, layout, factors[fixed], self._unobserved_weight)
        factors[fixed] = rotate(device, layout, factors[fixed], rotation)
        if self._cg_steps:  # only conjugate gradients look at what they start from
            factors[solved] = rotate(device, layout, factors[solved], rotation)
        self._turned = self._turned @ rotation.astype(np.float64)
        side, failed = self._sides[solved], self._failed[solved]
        solve_rows(device, layout, side, factors[fixed], spectrum, factors[solved], failed, self._cg_steps)

    def result(self) -> tuple[Factors, Factors]:
        """User and item factors in the basis they started from. Waits for the device.

        Raises DivergenceError naming side, row and epoch where a system was not positive definite in float32
        or a factor is not finite.
        """
        xp, back = self._device.xp, self._device.xp.ascontiguousarray(self._turned.T.astype(np.float32))
        for name, failed, factors in zip(("user", "item"), self._failed, self._factors, strict=True):
            bad = (failed != 0) | ~xp.isfinite(factors).all(axis=1)
            if bool(bad.any()):
                raise DivergenceError(
                    f"{name}_rows: by epoch {self._num_epochs - 1} of this call the system of row "
                    f"{int(bad.argmax())} was not positive definite in float32; raise the regularization or "
                    "drop negative weights"
                )
        turned = (rotate(self._device, self._layout, x, back) for x in self._factors)
        users, items = (to_host(self._device, self._layout, x) for x in turned)
        return users, items


def eigenbasis(
    device: Device,
    layout: Layout,
    factors: Any,
    unobserved_weight: float,
    gramian: npt.NDArray[np.float64] | None = None,
) -> tuple[Any, Any]:
    """The rotation Q [f, f] that makes the Gramian diagonal, and `unobserved_weight` times that diagonal.

    The Gramian is one float32 GEMM of the vendor's library; its small eigenproblem is solved in float64.
    """
    xp, f = device.xp, layout.num_factors
    if unobserved_weight == 0:
        return xp.eye(f, dtype=np.float32), xp.zeros(f, np.float32)
    plain = factors[:, :f].astype(np.float32)
    matrix = plain.T @ plain if gramian is None else xp.asarray(gramian)
    # factors that have diverged stay so and are reported when fetched; the eigensolver must not choke on them
    eigenvalues, vectors = device.eigh(xp.nan_to_num(matrix.astype(np.float64), posinf=0, neginf=0))
    return vectors.astype(np.float32), (unobserved_weight * xp.maximum(eigenvalues, 0)).astype(np.float32)


def rotate(device: Device, layout: Layout, factors: Any, rotation: Any) -> Any:
    """`factors @ rotation`, stored as `factors` are."""
    f = layout.num_factors
    out = device.xp.zeros_like(factors)
    out[:, :f] = (factors[:, :f].astype(np.float32) @ rotation).astype(factors.dtype)
    return out


def solve_rows(
    device: Device,
    layout: Layout,
    side: Interactions,
    rotated: Any,
    spectrum: Any,
    out: Any,
    failed: Any,
    cg_steps: int,
) -> None:
    """Launches one half step in the eigenbasis; `out` is written, and read as the start if `cg_steps` > 0.

    `failed` (int8 [rows]) gets a 1 where a row's system was not positive definite; empty rows become 0.
    """
    steps = np.int32(cg_steps)
    entries = (side.columns, side.weights, side.targets)
    shared = (spectrum, side.regularization, out, failed)
    for long in side.long_rows:
        partial = device.xp.empty((len(long.segments), partial_floats(layout)), np.float32)
        start(
            device,
            primal_launch(layout, "als_partial"),
            len(long.segments),
            (rotated, *entries, long.segments, partial),
        )
        start(
            device,
            primal_launch(layout, "als_finish"),
            len(long.rows),
            (partial, long.rows, long.first_segment, *shared, steps),
        )
    for group in side.bins:
        arguments = (rotated, side.indptr, *entries, group.rows, *shared)
        if group.capacity == PRIMAL:
            start(device, primal_launch(layout, "als_primal"), len(group.rows), (*arguments, steps))
        elif cg_steps:
            start(device, cg_launch(layout, group.capacity), len(group.rows), (*arguments, steps))
        else:
            start(device, dual_launch(layout, group.capacity), len(group.rows), arguments)
    out[side.empty_rows] = 0


def _solve_carefully(rows: Rows, row: int, factors: Factors, unobserved_weight: float) -> Any:
    """A row whose system float32 took for indefinite, again in float64; raises if that is so."""
    entries = slice(int(rows.indptr[row]), int(rows.indptr[row + 1]))
    part = (rows.indices[entries], rows.weight[entries], rows.target[entries])
    indptr = np.array([0, entries.stop - entries.start])
    try:
        answer = solve_in_float64(
            indptr, *part, factors, rows.regularization[row : row + 1], unobserved_weight
        )
    except np.linalg.LinAlgError:
        lightest = float(rows.weight[entries].min())
        raise ValueError(
            f"rows: row {row} (lightest weight {lightest:g}, regularization {rows.regularization[row]:g}) "
            "has a system that is not positive definite; raise the regularization or drop negative weights"
        ) from None
    return cast(Any, answer[0])
