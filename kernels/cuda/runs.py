"""Runs of interactions of one user, the unit of work of SGD and BPR on the GPU (see descent.cuh)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopsight.kernels.cuda.layout import Layout
from shopsight.kernels.cuda.runtime import Device

LONGEST = 64  # interactions of a run: limits the difference in work between two groups of lanes
THREADS = 256


@dataclass(frozen=True)
class Runs:
    """The user, the first interaction and the length of every run, as device arrays [runs]."""

    user: Any
    begin: Any
    count: Any

    def __len__(self) -> int:
        return len(self.user)


def load_runs(device: Device, indptr: npt.NDArray[Any]) -> Runs:
    """Cut each row of a CSR matrix, indptr [users + 1], into runs of at most 64 interactions."""
    degrees = np.diff(indptr)
    pieces = -(-degrees // LONGEST)
    user = np.repeat(np.arange(len(degrees)), pieces)
    piece = np.arange(len(user)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begin = indptr[user] + piece * LONGEST
    count = np.minimum(indptr[user + 1] - begin, LONGEST)
    asarray = device.xp.asarray
    return Runs(asarray(user, dtype=np.int32), asarray(begin, dtype=np.int64), asarray(count, dtype=np.int32))


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
