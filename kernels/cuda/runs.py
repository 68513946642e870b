"""Runs of interactions of one user, the unit of work of SGD and BPR on the GPU (see descent.cuh)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopsight.kernels.cuda.layout import Layout
from shopsight.kernels.cuda.runtime import Device, Kernel

# Interactions of a run: more would make the last groups of a pass late, fewer would split more users, whose
# runs do not see each other's steps within a pass.
LONGEST = 512
THREADS = 256


@dataclass(frozen=True)
class Runs:
    """Every run, and the users who have several; device arrays.

    user, begin, count: the user, the first interaction and the length of a run [runs]. part: its place among
    the runs that are merged, -1 for the only run of a user [runs]. split_users [n] and first_part [n + 1]:
    the users whose runs are merged, and where their parts begin; num_parts: how many parts there are.
    """

    user: Any
    begin: Any
    count: Any
    part: Any
    split_users: Any
    first_part: Any
    num_parts: int

    def __len__(self) -> int:
        return len(self.user)


def load_runs(device: Device, indptr: npt.NDArray[Any]) -> Runs:
    """Cut each row of a CSR matrix, indptr [users + 1], into runs of at most LONGEST interactions."""
    degrees = np.diff(indptr)
    pieces = -(-degrees // LONGEST)
    user = np.repeat(np.arange(len(degrees)), pieces)
    piece = np.arange(len(user)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begin = indptr[user] + piece * LONGEST
    count = np.minimum(indptr[user + 1] - begin, LONGEST)
    split = np.flatnonzero(pieces > 1)
    is_part = pieces[user] > 1
    asarray = device.xp.asarray
    return Runs(
        user=asarray(user, dtype=np.int32),
        begin=asarray(begin, dtype=np.int64),
        count=asarray(count, dtype=np.int32),
        part=asarray(np.where(is_part, np.cumsum(is_part) - 1, -1), dtype=np.int32),
        split_users=asarray(split, dtype=np.int32),
        first_part=asarray(np.concatenate([[0], np.cumsum(pieces[split])]), dtype=np.int32),
        num_parts=int(is_part.sum()),
    )


class Parts:
    """Where the runs of split users end, float32 on the device; `factors` [parts, stored], `bias` [parts]."""

    def __init__(self, device: Device, layout: Layout, runs: Runs) -> None:
        self._device, self._layout, self._runs = device, layout, runs
        self.factors = device.xp.empty((runs.num_parts, layout.stored), np.float32)
        self.bias = device.xp.empty(runs.num_parts, np.float32)

    def merge(self, user_factors: Any, user_bias: Any, seed: int) -> None:
        """Replace the rows of split users by the means of their parts; biases if `user_bias` is given."""
        users = np.int32(len(self._runs.split_users))
        kernel = Kernel("merge.cu", "merge_runs", self._layout.defines)
        runs = self._runs.split_users, self._runs.first_part, users
        arguments = (user_factors, user_bias, self.factors, self.bias, *runs, np.uint64(seed))
        self._device.launch(kernel, grid(self._layout, int(users)), THREADS, 0, arguments)


def draw_order(num_runs: int, random: np.random.Generator) -> tuple[np.int32, np.uint32, np.uint32]:
    """Return num_runs, stride and offset of one pass, whose order is (index * stride + offset) % num_runs."""
    stride = int(random.integers(1, max(2, num_runs)))
    while math.gcd(stride, num_runs) != 1:
        stride += 1
    return np.int32(num_runs), np.uint32(stride), np.uint32(random.integers(max(1, num_runs)))


def grid(layout: Layout, num_runs: int) -> tuple[int, int]:
    """Return the grid of a pass, with a group of lanes for every run."""
    quads = layout.stored // 4
    lanes = min(32, max(2, 1 << (quads - 1).bit_length()))
    return -(-num_runs * lanes // THREADS), 1
