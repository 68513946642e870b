"""ALS on the GPU: each row solved in the eigenbasis of the Gramian, by the kernel that fits its length."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from shopsight.kernels.cuda import runtime
from shopsight.kernels.cuda.basis import Basis, eigenbasis, rotate
from shopsight.kernels.cuda.launches import (
    RESCUE_BLOCKS,
    cg_launch,
    dual_launch,
    partial_floats,
    primal_launch,
    rescue_launch,
    start,
)
from shopsight.kernels.cuda.layout import Layout, all_finite, to_device, to_host
from shopsight.kernels.cuda.plan import PRIMAL, Interactions, LongRows, load_interactions
from shopsight.kernels.cuda.runtime import Device
from shopsight.kernels.errors import DivergenceError
from shopsight.kernels.rows import Factors, Rows


def half_step(
    rows: Rows,
    factors: Factors,
    unobserved_weight: float,
    solver: str,
    num_cg_steps: int,
    initial: Factors | None,
    gramian: npt.NDArray[np.float64] | None = None,
) -> Factors:
    """Implement `shopsight.kernels.als.half_step`."""
    device, layout = runtime.device(), Layout.of(factors)
    side = load_interactions(device, layout, rows, use_cg=solver == "cg")
    y = to_device(device, layout, factors)
    basis = eigenbasis(device, layout, y, unobserved_weight, gramian)
    steps = num_cg_steps if solver == "cg" else 0
    if steps and initial is not None:
        x = rotate_in_place(device, layout, to_device(device, layout, initial), basis)
    else:
        x = device.xp.zeros((side.num_rows, layout.stored), layout.dtype)
    failed = device.xp.zeros(side.num_rows, np.int8)
    solve_rows(device, layout, side, rotate_in_place(device, layout, y, basis), basis, x, failed, steps)
    solved = to_host(device, layout, rotate_back(device, layout, x, basis))
    refuse_failed(rows, failed if device.xp is np else failed.get())
    return solved


class AlsTraining:
    """Implements `shopsight.kernels.als.Alternation` on the device; an epoch does not wait for the device.

    Scores do not change when both factor matrices are rotated alike. Each half step therefore rotates the
    fixed side into the eigenbasis of its Gramian and solves the other side there; `result` rotates both back.
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
        self._rotation = self._device.xp.eye(self._layout.num_factors, dtype=np.float64)

    def run_epoch(self) -> None:
        """Solve the users against the items, then the items against the users."""
        self._half_step(solved=0, fixed=1)
        self._half_step(solved=1, fixed=0)
        self._num_epochs += 1

    def _half_step(self, solved: int, fixed: int) -> None:
        device, layout, factors = self._device, self._layout, self._factors
        basis = eigenbasis(device, layout, factors[fixed], self._unobserved_weight)
        rotate_in_place(device, layout, factors[fixed], basis)
        if self._cg_steps:  # only conjugate gradients read their starting point
            rotate_in_place(device, layout, factors[solved], basis)
        if basis.rotation is not None:
            self._rotation = self._rotation @ basis.rotation.astype(np.float64)
        side, failed = self._sides[solved], self._failed[solved]
        solve_rows(device, layout, side, factors[fixed], basis, factors[solved], failed, self._cg_steps)

    def result(self) -> tuple[Factors, Factors]:
        """Return user and item factors in the basis in which they were given. Waits for the device.

        Raises DivergenceError naming side, row and epoch where a system was not positive definite, in float32
        and in float64, or a factor is not finite.
        """
        back = self._device.xp.ascontiguousarray(self._rotation.T.astype(np.float32))
        for name, failed, factors in zip(("user", "item"), self._failed, self._factors, strict=True):
            bad = (failed != 0) | ~all_finite(self._device, self._layout, factors)
            if bool(bad.any()):
                raise DivergenceError(
                    f"{name}_rows: by epoch {self._num_epochs - 1} of this call the system of row "
                    f"{int(bad.argmax())} was not positive definite; raise the regularization or "
                    "drop negative weights"
                )
        rotated = (rotate(self._device, self._layout, x, back) for x in self._factors)
        users, items = (to_host(self._device, self._layout, x) for x in rotated)
        return users, items

    def go_on_from_result(self) -> None:
        """Replace the factors by those that `result` returns, as a new training would begin with them."""
        back = self._device.xp.ascontiguousarray(self._rotation.T.astype(np.float32))
        self._factors = [rotate(self._device, self._layout, x, back) for x in self._factors]
        self._rotation = self._device.xp.eye(self._layout.num_factors, dtype=np.float64)


def rotate_in_place(device: Device, layout: Layout, factors: Any, basis: Basis) -> Any:
    """Rotate stored factors into the basis, in place."""
    return factors if basis.rotation is None else rotate(device, layout, factors, basis.rotation, factors)


def rotate_back(device: Device, layout: Layout, factors: Any, basis: Basis) -> Any:
    """Rotate stored factors out of the basis, in place."""
    if basis.rotation is None:
        return factors
    return rotate(device, layout, factors, device.xp.ascontiguousarray(basis.rotation.T), factors)


def solve_rows(
    device: Device,
    layout: Layout,
    side: Interactions,
    rotated: Any,
    basis: Basis,
    out: Any,
    failed: Any,
    cg_steps: int,
) -> None:
    """Launch one half step in the eigenbasis; `out` is written, and is the starting point if `cg_steps` > 0.

    Rows that float32 cannot solve are solved in float64. `failed` (int8 [rows]) keeps a 1 where a system is
    not positive definite there either; empty rows become 0.
    """
    steps = np.int32(cg_steps)
    primal = partial(primal_launch, layout, signed=side.signed)
    entries = (side.columns, side.weights, side.targets)
    shared = (basis.spectrum, side.regularization, out, failed)

    def solve_long(long: LongRows) -> None:
        parts = device.xp.empty((len(long.segments), partial_floats(layout)), np.float32)
        begin = (rotated, *entries, basis.span, long.segments, long.weighted, parts)
        finish = (parts, long.rows, long.first_segment, *shared, steps)
        start(device, primal("als_partial"), len(long.segments), begin)
        start(device, primal("als_finish"), len(long.rows), finish)

    def solve_bin(rows: Any, capacity: int) -> None:
        bounds = (side.indptr,) if cg_steps and capacity != PRIMAL else (side.indptr, side.weighted)
        row = (rotated, *bounds, *entries, rows, basis.spectrum)
        result = (side.regularization, out, failed)
        if capacity == PRIMAL:
            start(device, primal("als_primal"), len(rows), (*row, basis.span, *result, steps))
        elif cg_steps:
            start(device, cg_launch(layout, capacity), len(rows), (*row, *result, steps))
        else:
            start(device, dual_launch(layout, capacity), len(rows), (*row, basis.span, *result))

    jobs = [partial(solve_long, long) for long in side.long_rows]
    jobs += [partial(solve_bin, group.rows, group.capacity) for group in side.bins]
    device.run_concurrently(jobs)
    out[side.empty_rows] = 0
    rescue(device, layout, side, rotated, basis, out, failed)


def rescue(
    device: Device, layout: Layout, side: Interactions, rotated: Any, basis: Basis, out: Any, failed: Any
) -> None:
    """Solve the rows marked in `failed` in float64 on the device; solved ones lose their mark."""
    workspace = device.xp.empty((RESCUE_BLOCKS, layout.num_factors * (layout.num_factors + 1)), np.float64)
    entries = (side.columns, side.weights, side.targets)
    arguments = (rotated, side.indptr, *entries, basis.spectrum, side.regularization, out, failed)
    start(device, rescue_launch(layout), RESCUE_BLOCKS, (*arguments, np.int32(side.num_rows), workspace))


def refuse_failed(rows: Rows, failed: npt.NDArray[np.int8]) -> None:
    """Raise ValueError naming the first row whose system has no solution in float64 either."""
    if not failed.any():
        return
    row = int(failed.argmax())
    lightest = float(rows.weight[rows.indptr[row] : rows.indptr[row + 1]].min(initial=np.inf))
    raise ValueError(
        f"rows: row {row} (lightest weight {lightest:g}, regularization {rows.regularization[row]:g}) "
        "has a system that is not positive definite; raise the regularization or drop negative weights"
    )
