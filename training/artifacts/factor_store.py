"""Storage of factors between half steps: in memory, or in a file that is read and written in blocks."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shopsight.kernels.als import gramian
from shopsight.kernels.rows import Factors

SLAB_BYTES = 4 * 2**20  # of one read or write
# without it Linux refuses private maps that are larger than memory; not every Python names it
_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)
_GAP_BYTES = (
    64 * 2**10
)  # rows closer than this are read together: one read costs about as much as these bytes


class FactorStore(Protocol):
    """Interface of a matrix of factors [rows, f] in the storage type."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    def read(self, begin: int, end: int) -> Factors:
        """Rows begin..end."""

    def take(self, rows: NDArray[np.int64]) -> Factors:
        """Return these rows; `rows` ascend."""

    def write(self, begin: int, values: Factors) -> None:
        """Replace the rows from `begin` on."""

    def array(self) -> Factors:
        """Return the whole matrix, in memory or memory-mapped."""


class InMemory:
    """Factors in host memory; `array` returns the given array itself."""

    def __init__(self, values: Factors) -> None:
        self._values = values
        self.shape, self.dtype = values.shape, values.dtype

    def read(self, begin: int, end: int) -> Factors:
        return self._values[begin:end]

    def take(self, rows: NDArray[np.int64]) -> Factors:
        return self._values[rows]  # type: ignore[no-any-return]

    def write(self, begin: int, values: Factors) -> None:
        self._values[begin : begin + len(values)] = values

    def array(self) -> Factors:
        return self._values


class InFile:
    """An array inside an open file, which stays open as long as this object or its mapped array.

    Reads and writes use file I/O, so that only the current block is resident; the system can drop its cached
    pages at any time.
    """

    def __init__(self, handle: int, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        """`handle` is taken over, and closed with this object."""
        self._handle, self._offset = handle, offset
        self.shape, self.dtype = shape, dtype
        self._row_bytes = dtype.itemsize * math.prod(shape[1:])

    @classmethod
    def scratch(cls, shape: tuple[int, ...], dtype: np.dtype[np.generic], folder: Path) -> InFile:
        """Return a new array in an unnamed file in `folder` with its space reserved; a kill leaves no file.

        Raises OSError naming folder, size and remedy if the disk has no space.
        """
        handle, path = tempfile.mkstemp(prefix="factors-", suffix=".scratch", dir=folder)
        Path(path).unlink()
        size = dtype.itemsize * math.prod(shape)
        try:
            if size:
                os.posix_fallocate(handle, 0, size)
        except OSError as error:
            os.close(handle)
            raise OSError(
                error.errno,
                f"{folder}: no room for {size / 2**30:.2f} GiB of factors ({error.strerror}); give fit a "
                "`checkpoint` folder, or TMPDIR, on a larger disk",
            ) from None
        return cls(handle, 0, shape, dtype)

    def read(self, begin: int, end: int) -> Factors:
        values = np.empty((max(0, min(end, self.shape[0]) - begin), *self.shape[1:]), self.dtype)
        _read_fully(self._handle, values, self._offset + begin * self._row_bytes)
        return values

    def take(self, rows: NDArray[np.int64]) -> Factors:
        taken = np.empty((len(rows), *self.shape[1:]), self.dtype)
        if not len(rows):
            return taken
        apart = np.diff(rows) * self._row_bytes > _GAP_BYTES
        apart |= np.diff(rows * self._row_bytes // SLAB_BYTES) > 0
        edges = [0, *(np.flatnonzero(apart) + 1).tolist(), len(rows)]
        for begin, end in pairwise(edges):
            first = int(rows[begin])
            together = self.read(first, int(rows[end - 1]) + 1)
            taken[begin:end] = together[rows[begin:end] - first]
        return taken

    def write(self, begin: int, values: Factors) -> None:
        left = bytes_of(values)
        offset = self._offset + begin * self._row_bytes
        while left:
            written = os.pwrite(self._handle, left[:SLAB_BYTES], offset)
            left, offset = left[written:], offset + written

    def array(self) -> Factors:
        """Return the array as a private memory map: changes never reach the file."""
        count = math.prod(self.shape)
        if count == 0:
            return np.empty(self.shape, self.dtype)
        start = self._offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        length = self._offset - start + count * self.dtype.itemsize
        flags, prot = mmap.MAP_PRIVATE | _MAP_NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE
        mapped = mmap.mmap(self._handle, length, flags=flags, prot=prot, offset=start)
        raw = np.frombuffer(mapped, np.uint8, offset=self._offset - start)
        return raw.view(self.dtype).reshape(self.shape)

    def __del__(self) -> None:
        os.close(self._handle)


def slabs(store: FactorStore) -> Iterator[tuple[int, Factors]]:
    """Yield (first row, rows) over the whole store, a few megabytes at a time."""
    step = rows_of_slab(store)
    for begin in range(0, store.shape[0], step):
        yield begin, store.read(begin, min(begin + step, store.shape[0]))


def rows_of_slab(store: FactorStore) -> int:
    """Return the number of rows in one slab."""
    return max(1, SLAB_BYTES // max(1, store.dtype.itemsize * math.prod(store.shape[1:])))


def gramian_of(store: FactorStore) -> NDArray[np.float64]:
    """Return the Gramian factorsᵀ·factors, float64 [f, f], summed over blocks."""
    total = np.zeros((store.shape[1],) * 2)
    for _, block in slabs(store):
        total += gramian(block)
    return total


def bytes_of(values: Factors) -> memoryview:
    """Return an array's bytes, without a copy if it is contiguous; bfloat16 arrays have no NumPy buffer."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def _read_fully(handle: int, values: Factors, offset: int) -> None:
    left = bytes_of(values)
    while left:
        count = os.preadv(handle, [left[: 2**30]], offset)
        if count == 0:
            raise OSError("the file of the factors ends early; it was cut while in use")
        left, offset = left[count:], offset + count
