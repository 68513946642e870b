"""One look over the bytes of a block: which records are UTF-8, how many fields they have."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from training.data.records import Block, Positions

_QUOTE = 34


@dataclass(frozen=True)
class Survey:
    """What holds of a whole block, so that the usual clean block needs no closer look.

    high: some byte is not ASCII; quoted: there is a quote; tidy: no field needs stripping or may be a written
    null; plain: no field can have a control character.
    """

    high: bool
    quoted: bool
    tidy: bool
    plain: bool


def survey(data: bytes, separator: str) -> Survey:
    """Look at every byte of some CSV once."""
    high, quotes, edges, controls = _survey(np.frombuffer(data, np.uint8), np.uint8(ord(separator)))
    quoted, plain = quotes > 0, controls == 0
    tidy = not (high & 0x80 or quoted or edges or b"\\N" in data)
    return Survey(bool(high & 0x80), quoted, tidy, plain and not quoted)


def survey_json(data: bytes) -> Survey:
    """The same of JSON Lines, where a backslash may begin any character."""
    return Survey(not data.isascii(), quoted=True, tidy=False, plain=b"\\" not in data)


def invalid_utf8(block: Block) -> Positions:
    """The indices of records that are not valid UTF-8."""
    broken = np.zeros(len(block), dtype=np.bool_)
    _find_broken_utf8(_bytes(block), block.starts, block.stops, broken)
    found: Positions = np.flatnonzero(broken)
    return found


def field_counts(block: Block, separator: str) -> Positions:
    """How many fields each record has; separators inside quotes do not count."""
    counts = np.ones(len(block), dtype=np.int64)
    _count_fields(_bytes(block), block.starts, block.stops, np.uint8(ord(separator)), counts)
    return counts


def not_objects(block: Block) -> Positions:
    """The indices of records that cannot be one JSON object, by their quotes and brackets."""
    broken = np.zeros(len(block), dtype=np.bool_)
    _check_brackets(_bytes(block), block.starts, block.stops, broken)
    found: Positions = np.flatnonzero(broken)
    return found


def _bytes(block: Block) -> NDArray[np.uint8]:
    return np.frombuffer(block.data, dtype=np.uint8)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _survey(data, separator):  # type: ignore[no-untyped-def]
    # One byte a flag and separate loops, so that each becomes vector instructions.
    none, newline, feed, space = np.uint8(0), np.uint8(10), np.uint8(13), np.uint8(32)
    quote, delete = np.uint8(_QUOTE), np.uint8(127)
    high, quotes, edges, controls = none, none, none, none
    for k in range(data.size):
        high |= data[k]
    for k in range(data.size):
        quotes |= np.uint8(data[k] == quote)
    for k in range(data.size):
        c = data[k]
        low = (c < space) & (c != newline) & (c != feed) & (c != separator)
        controls |= np.uint8(low | (c == delete))
    here, later = data[1:], data[2:]  # slices, because an index that might be negative is looked at
    for k in range(later.size):
        before, c, after = data[k], here[k], later[k]
        blank = (c <= space) & (c != newline) & (c != feed) & (c != separator)
        beside = (before == separator) | (after == separator) | (before == newline)
        edges |= np.uint8(blank & (beside | (after == newline) | (after == feed)))
    if data.size > 0 and data[0] <= space:
        edges = np.uint8(1)
    return high, quotes, edges, controls


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _count_fields(data, starts, stops, separator, counts):  # type: ignore[no-untyped-def]
    quote = np.uint8(_QUOTE)
    for i in range(starts.size):
        record = data[starts[i] : stops[i]]
        separators, quotes = np.uint32(0), np.uint32(0)
        for k in range(record.size):
            separators += np.uint32(record[k] == separator)
            quotes += np.uint32(record[k] == quote)
        if quotes > 0:
            separators, inside = np.uint32(0), False
            for k in range(record.size):
                inside ^= record[k] == quote
                separators += np.uint32(record[k] == separator and not inside)
        counts[i] += separators


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _find_broken_utf8(data, starts, stops, broken):  # type: ignore[no-untyped-def]
    """RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF."""
    for i in range(starts.size):
        k, stop, high = starts[i], stops[i], np.uint8(0)
        record = data[k:stop]
        for j in range(record.size):
            high |= record[j]
        while high >= 0x80 and k < stop:
            c = data[k]
            if c < 0x80:
                k += 1
                continue
            least, most = 0x80, 0xBF  # of the second byte
            if 0xC2 <= c <= 0xDF:
                more = 1
            elif 0xE0 <= c <= 0xEF:
                more = 2
                least = 0xA0 if c == 0xE0 else 0x80
                most = 0x9F if c == 0xED else 0xBF
            elif 0xF0 <= c <= 0xF4:
                more = 3
                least = 0x90 if c == 0xF0 else 0x80
                most = 0x8F if c == 0xF4 else 0xBF
            else:
                more = 0
            valid = more > 0 and k + more < stop and least <= data[k + 1] <= most
            for m in range(2, more + 1):
                valid = valid and 0x80 <= data[k + m] <= 0xBF
            if not valid:
                broken[i] = True
                break
            k += more + 1


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _check_brackets(data, starts, stops, broken):  # type: ignore[no-untyped-def]
    for i in range(starts.size):
        depth, closed, inside, escaped = 0, False, False, False
        for k in range(starts[i], stops[i]):
            c = data[k]
            if inside:
                if escaped:
                    escaped = False
                elif c == 92:  # backslash
                    escaped = True
                elif c == _QUOTE:
                    inside = False
            elif c == 123 or c == 91:  # { [
                broken[i] |= closed or (depth == 0 and c == 91)
                depth += 1
            elif c == 125 or c == 93:  # } ]
                depth -= 1
                closed = depth == 0
            elif c != 32 and c != 9:
                broken[i] |= depth <= 0
                inside = c == _QUOTE
        broken[i] |= inside or not closed
