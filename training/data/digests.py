"""Hashes of rows: unkeyed ones to find equal records, and keyed ones as ids in the tables.

`Digests` compare raw records: fast, 96 bits, not secret. They stay with the raw data. The ids in the tables
are derived from them with the pseudonymisation key (SipHash-2-4): without a key, anyone who knows the other
columns of a record could test guesses of the customer's raw identifier.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from shopsight.serving.pseudonym import PseudonymKey

Bytes = NDArray[np.uint8]
Offsets = NDArray[np.int64]

ID_CHARACTERS = 16  # of base 32: 80 bits, so a billion events share an id with probability 4e-7
_ALPHABET = np.frombuffer(b"0123456789abcdefghijklmnopqrstuv", dtype=np.uint8)


@dataclass(frozen=True)
class Digests:
    """96 bits a row: `hi` uint64 and `lo` uint32."""

    hi: NDArray[np.uint64]
    lo: NDArray[np.uint32]

    def columns(self) -> list[pl.Series]:
        """The columns `hi` and `lo`."""
        return [pl.Series("hi", self.hi), pl.Series("lo", self.lo)]


def hash_spans(data: Bytes, starts: Offsets, stops: Offsets, context: str) -> Digests:
    """Hash each byte span [start, stop) of `data`, apart for each `context` (MurmurHash3's mixing)."""
    seed = int.from_bytes(hashlib.sha256(context.encode()).digest()[:8], "little")
    hi = np.full(starts.size, seed, dtype=np.uint64)
    lo = np.full(starts.size, seed ^ 0x9E3779B97F4A7C15, dtype=np.uint64)
    _mix_spans(data, starts, stops, hi, lo)
    return Digests(hi, lo.astype(np.uint32))


def hash_columns(frame: pl.DataFrame, columns: Sequence[str], context: str) -> Digests:
    """Hash each row's values of `columns` (text or what casts to it), null apart from every text."""
    seed = int.from_bytes(hashlib.sha256(context.encode()).digest()[:8], "little")
    hi = np.full(frame.height, seed, dtype=np.uint64)
    lo = np.full(frame.height, seed ^ 0x9E3779B97F4A7C15, dtype=np.uint64)
    for name in columns:
        data, offsets = text_buffers(frame[name])
        _mix_spans(data, offsets[:-1], offsets[1:], hi, lo)
    return Digests(hi, lo.astype(np.uint32))


def keyed_ids(digests: Digests, key: PseudonymKey, purpose: str) -> pl.Series:
    """Return ID_CHARACTERS characters of 0-9a-v a row, which only the holder of the key can make.

    A key that came by rotation makes the ids that the first one made.
    """
    while key.renews is not None:
        key = key.renews
    secret = hmac.new(key.secret, f"ids:{purpose}".encode(), hashlib.sha256).digest()
    k0, k1 = (int.from_bytes(secret[i : i + 8], "little") for i in (0, 8))
    letters = np.empty((digests.hi.size, ID_CHARACTERS), dtype=np.uint8)
    _sip_ids(digests.hi, digests.lo, np.uint64(k0), np.uint64(k1), _ALPHABET, letters)
    packed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(ID_CHARACTERS), digests.hi.size, [None, pa.py_buffer(letters)]
    )
    return pl.Series(pl.from_arrow(packed.cast(pa.large_binary()))).cast(pl.String)


def order_by_byte(
    values: NDArray[np.uint8], chosen: NDArray[np.bool_]
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """The chosen positions in the order of their byte, equal ones as they were; the count of each byte."""
    counts = np.bincount(values[chosen], minlength=256)
    order = np.empty(int(counts.sum()), dtype=np.uint32)
    _place(values, chosen, np.concatenate(([0], np.cumsum(counts)))[:-1], order)
    return order, counts


def text_buffers(column: pl.Series) -> tuple[Bytes, Offsets]:
    """The UTF-8 bytes of a column and their offsets [n + 1]; null is a text that no shop uses."""
    if column.dtype == pl.Datetime:
        column = column.to_physical()
    array = column.cast(pl.String).fill_null("\0").rechunk().to_arrow()
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    array = array.cast(pa.large_string())
    if len(array) == 0:
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    _, offsets, data = array.buffers()
    first = array.offset
    spans = np.frombuffer(offsets, dtype=np.int64)[first : first + len(array) + 1]
    return np.frombuffer(data, dtype=np.uint8) if data else np.zeros(0, np.uint8), spans


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _place(values, chosen, begins, order):  # type: ignore[no-untyped-def]
    for i in range(values.size):
        if chosen[i]:
            order[begins[values[i]]] = i
            begins[values[i]] += 1


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _turn(x, bits):  # type: ignore[no-untyped-def]
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _spread(x):  # type: ignore[no-untyped-def]
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return x ^ (x >> np.uint64(33))


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _mix(h1, h2, word):  # type: ignore[no-untyped-def]
    c1, c2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
    h1 = _turn(h1 ^ (_turn(word * c1, 31) * c2), 27) * np.uint64(5) + np.uint64(0x52DCE729)
    h2 = _turn(h2 ^ (_turn(word * c2, 33) * c1), 31) * np.uint64(5) + np.uint64(0x38495AB5)
    return h1, h2


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _mix_spans(data, starts, stops, hi, lo):  # type: ignore[no-untyped-def]
    for i in range(starts.size):
        h1, h2 = hi[i], lo[i]
        k, stop = np.uint64(starts[i]), np.uint64(stops[i])
        while k + np.uint64(8) <= stop:
            word = np.uint64(0)
            for j in range(8):  # unrolled by the compiler into one load
                word |= np.uint64(data[k + np.uint64(j)]) << np.uint64(8 * j)
            h1, h2 = _mix(h1, h2, word)
            k += np.uint64(8)
        word, shift = np.uint64(0), np.uint64(0)
        while k < stop:
            word |= np.uint64(data[k]) << shift
            shift += np.uint64(8)
            k += np.uint64(1)
        h1, h2 = _mix(h1, h2, word)
        # The length keeps ("ab", "c") and ("a", "bc") apart.
        length = np.uint64(stops[i] - starts[i])
        h1, h2 = h1 ^ length, h2 ^ length
        h1 += h2
        h2 += h1
        h1, h2 = _spread(h1), _spread(h2)
        h1 += h2
        hi[i], lo[i] = h1, h2 + h1


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _sip_round(v0, v1, v2, v3):  # type: ignore[no-untyped-def]
    v0 += v1
    v1 = _turn(v1, 13) ^ v0
    v0 = _turn(v0, 32)
    v2 += v3
    v3 = _turn(v3, 16) ^ v2
    v0 += v3
    v3 = _turn(v3, 21) ^ v0
    v2 += v1
    v1 = _turn(v1, 17) ^ v2
    v2 = _turn(v2, 32)
    return v0, v1, v2, v3


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sip_ids(hi, lo, k0, k1, alphabet, letters):  # type: ignore[no-untyped-def]
    """SipHash-2-4 with 128 bits of output (Aumasson and Bernstein) of the 12 bytes of each digest."""
    last = np.uint64(12) << np.uint64(56)
    for i in range(hi.size):
        v0 = k0 ^ np.uint64(0x736F6D6570736575)
        v1 = k1 ^ np.uint64(0x646F72616E646F6D) ^ np.uint64(0xEE)
        v2 = k0 ^ np.uint64(0x6C7967656E657261)
        v3 = k1 ^ np.uint64(0x7465646279746573)
        for word in (hi[i], last | np.uint64(lo[i])):
            v3 ^= word
            for _ in range(2):
                v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
            v0 ^= word
        v2 ^= np.uint64(0xEE)
        for _ in range(4):
            v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        first = v0 ^ v1 ^ v2 ^ v3
        v1 ^= np.uint64(0xDD)
        for _ in range(4):
            v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        second = v0 ^ v1 ^ v2 ^ v3
        for j in range(8):
            letters[i, j] = alphabet[(first >> np.uint64(5 * j)) & np.uint64(31)]
            letters[i, j + 8] = alphabet[(second >> np.uint64(5 * j)) & np.uint64(31)]
