"""Content hashes of rows: the same bytes give the same 64 bits on every machine and in every release."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Offsets = NDArray[np.int64]
Hashes = NDArray[np.uint64]

_SEEDS = (0xCBF29CE484222325, 0x9E3779B97F4A7C15)


def hash_spans(data: Bytes, starts: Offsets, stops: Offsets) -> Hashes:
    """Return a 64-bit hash of each byte span [start, stop) of `data` (FNV-1a, finished with splitmix64)."""
    hashes = np.full(starts.size, _SEEDS[0], dtype=np.uint64)
    _mix_spans(data, starts, stops, hashes)
    return hashes


def content_ids(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """Return 32 hexadecimal digits a row from the values of `columns` (text or anything that casts to it).

    Rows of equal content are numbered before they are hashed, so that ids are unique and the set of ids does
    not depend on the order of rows.
    """
    lanes = np.empty((frame.height, 2), dtype=np.uint64)
    parts = [_text_buffers(frame[name]) for name in columns]
    for lane, seed in enumerate(_SEEDS):
        hashes = np.full(frame.height, seed, dtype=np.uint64)
        for data, offsets in parts:
            _mix_spans(data, offsets[:-1], offsets[1:], hashes)
        lanes[:, lane] = hashes
    first = pl.Series(lanes[:, 0])
    if first.n_unique() < frame.height:
        occurrence = first.to_frame("h").select(pl.int_range(pl.len(), dtype=pl.UInt64).over("h"))
        lanes[:, 1] += occurrence.to_series().to_numpy() * np.uint64(_SEEDS[1])
    packed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), frame.height, [None, pa.py_buffer(lanes)])
    binary = pl.Series(pl.from_arrow(packed.cast(pa.large_binary())))
    return binary.bin.encode("hex")


def _text_buffers(column: pl.Series) -> tuple[Bytes, Offsets]:
    """The UTF-8 bytes of a column and their offsets [n + 1]; null is a text that no shop uses."""
    if column.dtype == pl.Datetime:
        column = column.to_physical()
    text = column.cast(pl.String).fill_null("\0")
    array = text.to_arrow()
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    array = array.cast(pa.large_string())
    if len(array) == 0:
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    _, offsets, data = array.buffers()
    first = array.offset
    spans = np.frombuffer(offsets, dtype=np.int64)[first : first + len(array) + 1]
    return np.frombuffer(data, dtype=np.uint8) if data else np.zeros(0, np.uint8), spans


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _mix_spans(data, starts, stops, hashes):  # type: ignore[no-untyped-def]
    prime = np.uint64(0x100000001B3)
    for i in range(starts.size):
        h = hashes[i]
        for k in range(starts[i], stops[i]):
            h = (h ^ np.uint64(data[k])) * prime
        # The length keeps ("ab", "c") and ("a", "bc") apart; splitmix64 spreads what FNV leaves in low bits.
        h ^= np.uint64(stops[i] - starts[i]) * np.uint64(0x9E3779B97F4A7C15)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        hashes[i] = h ^ (h >> np.uint64(31))
