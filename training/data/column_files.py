"""Memory-mapped columns on disk, and the order in which a training visits their rows.

A batch is a few vectorised gathers from memory maps: workers share the page cache, and only the batch is
copied. The rows of a step depend on seed, epoch and step only, not on the number of workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopsight.serving.routing.arrays import map_safetensors
from shopsight.training.artifacts.folders import replaced_folder
from shopsight.training.artifacts.tensor_file import write_tensors

COLUMNS_FILE = "columns.safetensors"
Array = NDArray[Any]
Int64 = NDArray[np.int64]

_ROUNDS = 4
_MIX = np.uint64(0x9E3779B97F4A7C15)


def write_columns(folder: Path, columns: Mapping[str, Array]) -> str:
    """Replace `folder` atomically by one with these columns; returns the file's SHA-256.

    dtypes: float64, float32, int64, int32, uint8; columns need not be of one length.
    """
    with replaced_folder(folder) as staging:
        return write_tensors(
            staging / COLUMNS_FILE, {name: np.ascontiguousarray(column) for name, column in columns.items()}
        )


def map_columns(folder: Path) -> dict[str, Array]:
    """Map the columns of a folder, read-only; raises TensorFileError naming an invalid file."""
    return map_safetensors(folder / COLUMNS_FILE)


@dataclass(frozen=True)
class Share:
    """The share of one of several workers; the sizes of shares differ by at most one."""

    rank: int = 0
    num_workers: int = 1

    def bounds(self, num: int) -> tuple[int, int]:
        """First and last (exclusive) of `num` things that are this worker's."""
        return num * self.rank // self.num_workers, num * (self.rank + 1) // self.num_workers

    def most(self, num: int) -> int:
        """How many of `num` things the worker with the most takes."""
        return -(-num // self.num_workers)

    def sizes(self, num: int) -> list[int]:
        """How many of `num` things each worker takes."""
        parts = (Share(rank, self.num_workers).bounds(num) for rank in range(self.num_workers))
        return [end - begin for begin, end in parts]


@dataclass(frozen=True)
class Order:
    """The order of one epoch: a permutation of 0..num-1 whose parts can be computed separately.

    A Feistel network over the next even power of two with cycle walking (Black and Rogaway 2002, "Ciphers
    with Arbitrary Finite Domains"), so that no array of the data's length is held or shuffled.
    """

    num: int
    batch_size: int
    seed: int
    epoch: int

    @property
    def num_steps(self) -> int:
        """Steps of the epoch; their batches differ by at most one example and leave none out."""
        return -(-self.num // self.batch_size)

    def batch(self, step: int) -> Int64:
        """The examples of a step over all workers, int64."""
        begin, end = Share(step, self.num_steps).bounds(self.num)
        return self.at(np.arange(begin, end, dtype=np.int64))

    def at(self, positions: Int64) -> Int64:
        """Return the elements at these positions of the order, int64, each in 0..num-1."""
        found = self._encrypted(positions.astype(np.uint64))
        while (outside := found >= self.num).any():
            found[outside] = self._encrypted(found[outside])
        return found.astype(np.int64)

    def _encrypted(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        half = np.uint64(max(1, (max(self.num - 1, 1).bit_length() + 1) // 2))
        mask = np.uint64((1 << int(half)) - 1)
        keys = np.random.default_rng([self.seed, self.epoch, self.num]).integers(0, 2**63, _ROUNDS)
        left, right = values >> half, values & mask
        for key in keys.astype(np.uint64):
            left, right = right, left ^ (_mixed(right + key) & mask)
        return (left << half) | right


def latest(begin: Int64, end: Int64, most: int) -> tuple[Int64, NDArray[np.int32]]:
    """The places max(begin, end - most)..end of each row, one row after the other, and how many each has.

    begin, end: int64 [rows]; places are int64, to index a column with, lengths int32 [rows].
    """
    begin = np.maximum(begin, end - most)
    lengths = (end - begin).astype(np.int32)
    offsets = np.cumsum(lengths, dtype=np.int64) - lengths
    total = int(lengths.sum())
    return np.arange(total, dtype=np.int64) + np.repeat(begin - offsets, lengths), lengths


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finisher (Steele, Lea, Flood, 2014)."""
    with np.errstate(over="ignore"):
        mixed = values * _MIX
        mixed ^= mixed >> np.uint64(30)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(27)
        mixed *= np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))
