"""Peers that run on the GPU: implicit's own models, and torch programs of the same algorithms."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from benchmarks.on_gpu.machine import Gpu
from shopsight.kernels.rows import Rows


class ImplicitAls:
    """implicit's GPU solver, called as its `fit` calls it: one iteration a call."""

    def __init__(self, module: Any, matrix: sparse.csr_matrix, start: Any, regularization: float) -> None:
        self._x, self._y = (module.Matrix(np.ascontiguousarray(part)) for part in start)
        self._sides = module.CSRMatrix(matrix), module.CSRMatrix(matrix.T.tocsr())
        self._gramians = [module.Matrix.zeros(start[0].shape[1], start[0].shape[1]) for _ in range(2)]
        self._solver, self._regularization = module.LeastSquaresSolver(), regularization

    def __call__(self) -> None:
        for side, solved, fixed, gramian in (
            (self._sides[0], self._x, self._y, self._gramians[0]),
            (self._sides[1], self._y, self._x, self._gramians[1]),
        ):
            self._solver.calculate_yty(fixed, gramian, self._regularization)
            self._solver.least_squares(side, solved, gramian, fixed, 3)

    def factors(self) -> Any:
        return self._x.to_numpy(), self._y.to_numpy()


class TorchAls:
    """Rows of like degree padded together: batched products, batched Cholesky. One iteration a call."""

    def __init__(self, sides: tuple[Rows, Rows], start: Any, gpu: Gpu, room: int = 2**27) -> None:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        self._torch, self._device = torch, gpu.torch_device
        self._factors = [torch.from_numpy(part.copy()).to(self._device) for part in start]
        self._held = [float(rows.regularization[0]) for rows in sides]
        self._blocks = [self._pad(rows, start[0].shape[1], room) for rows in sides]

    def _pad(self, rows: Rows, num_factors: int, room: int) -> list[Any]:
        degrees = np.diff(rows.indptr)
        order = np.argsort(-degrees, kind="stable")
        order, blocks = order[degrees[order] > 0], []
        begin = 0
        while begin < len(order):
            width = int(degrees[order[begin]])
            taken = order[begin : begin + max(1, room // (max(width, num_factors) * num_factors))]
            at = rows.indptr[taken][:, None] + np.arange(width)
            inside = np.arange(width) < degrees[taken][:, None]
            at = np.where(inside, at, 0)
            parts = (taken, rows.indices[at], rows.weight[at] * inside, rows.target[at] * inside)
            blocks.append(
                tuple(self._torch.from_numpy(np.ascontiguousarray(x)).to(self._device) for x in parts)
            )
            begin += len(taken)
        return blocks

    def __call__(self) -> None:
        for solved, fixed in ((0, 1), (1, 0)):
            y = self._factors[fixed]
            shared = y.T @ y + self._held[solved] * self._torch.eye(y.shape[1], device=self._device)
            for rows, columns, weight, target in self._blocks[solved]:
                gathered = y[columns.long()]
                system = shared + (gathered * weight[:, :, None]).transpose(1, 2) @ gathered
                right = (gathered * target[:, :, None]).sum(dim=1)
                lower = self._torch.linalg.cholesky_ex(system)[0]
                self._factors[solved][rows] = self._torch.cholesky_solve(right[:, :, None], lower)[:, :, 0]

    def factors(self) -> Any:
        return tuple(x.cpu().numpy() for x in self._factors)


STEPS_AT_ONCE = 8  # of one row in a batch; summed as they are, the steps of a popular item would diverge


def add_steps(to: Any, rows: Any, steps: Any) -> None:
    """Adds a batch's steps to their rows; to one with more than STEPS_AT_ONCE, that many times their mean."""
    count = rows.bincount(minlength=len(to))
    held_back = (count.clamp(max=STEPS_AT_ONCE) / count.clamp(min=1)).to(steps.dtype)[rows]
    to.index_add_(0, rows, steps * (held_back[:, None] if steps.ndim == 2 else held_back))


class TorchSgd:
    """Ratings in random batches: one pass a call."""

    def __init__(self, data: Any, state: Any, rates: Any, gpu: Gpu, batch: int = 2**16) -> None:
        import torch

        users, items, ratings = data
        self._torch, self._batch, self._rates, self._mean = torch, batch, rates, state[4]
        device = gpu.torch_device
        self._data = tuple(
            torch.from_numpy(x).to(device) for x in (users.astype(np.int64), items.astype(np.int64), ratings)
        )
        self._state = tuple(torch.from_numpy(x.copy()).to(device) for x in state[:4])
        self._total = torch.zeros((), dtype=torch.float64, device=device)

    def __call__(self) -> None:
        x, y, a, b = self._state
        rate, held, bias_rate, bias_held = self._rates
        users, items, ratings = self._data
        order = self._torch.randperm(len(ratings), device=ratings.device)
        self._total.zero_()
        for begin in range(0, len(order), self._batch):
            at = order[begin : begin + self._batch]
            u, i = users[at], items[at]
            p, q = x[u], y[i]
            error = ratings[at] - (self._mean + a[u] + b[i] + (p * q).sum(dim=1))
            self._total += (error * error).sum()
            add_steps(x, u, rate * (error[:, None] * q - held * p))
            add_steps(y, i, rate * (error[:, None] * p - held * q))
            add_steps(a, u, bias_rate * (error - bias_held * a[u]))
            add_steps(b, i, bias_rate * (error - bias_held * b[i]))

    def error(self) -> float:
        return float((self._total / max(1, len(self._data[2]))).sqrt())


class ImplicitBpr:
    """implicit's GPU update, called as its `fit` calls it (with its check of negatives): one pass a call."""

    def __init__(self, module: Any, matrix: sparse.csr_matrix, start: Any, rate: float, held: float) -> None:
        users = np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(matrix.indptr))
        self._module = module
        self._vectors = tuple(
            module.IntVector(np.ascontiguousarray(part, dtype=np.int32))
            for part in (users, matrix.indices, matrix.indptr)
        )
        self._x, self._y = (module.Matrix(np.ascontiguousarray(part)) for part in start)
        self._rates = rate, held
        self._random = np.random.default_rng(0)

    def __call__(self) -> None:
        seed = int(self._random.integers(2**31))
        self._module.bpr_update(*self._vectors, self._x, self._y, *self._rates, seed, True)

    def factors(self) -> Any:
        return self._x.to_numpy(), self._y.to_numpy()


class TorchBpr:
    """Interactions in random batches against random items, seen or not: one pass a call."""

    def __init__(
        self, matrix: sparse.csr_matrix, start: Any, rate: float, held: float, gpu: Gpu, batch: int = 2**16
    ) -> None:
        import torch

        users = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        self._torch, self._batch, self._rates = torch, batch, (rate, held)
        self._pairs = tuple(
            torch.from_numpy(part.astype(np.int64)).to(gpu.torch_device) for part in (users, matrix.indices)
        )
        self._factors = tuple(torch.from_numpy(part.copy()).to(gpu.torch_device) for part in start)

    def __call__(self) -> None:
        (users, items), (x, y), (rate, held) = self._pairs, self._factors, self._rates
        order = self._torch.randperm(len(users), device=users.device)
        others = self._torch.randint(len(y), (len(users),), device=users.device)
        for begin in range(0, len(order), self._batch):
            at = order[begin : begin + self._batch]
            u, i, j = users[at], items[at], others[begin : begin + self._batch]
            p, q, z = x[u], y[i], y[j]
            step = self._torch.sigmoid(-(p * (q - z)).sum(dim=1))[:, None]
            add_steps(x, u, rate * (step * (q - z) - held * p))
            add_steps(y, i, rate * (step * p - held * q))
            add_steps(y, j, rate * (-step * p - held * z))

    def factors(self) -> Any:
        return tuple(part.cpu().numpy() for part in self._factors)
