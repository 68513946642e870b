"""Scans the bytes of a block once: invalid UTF-8, number of fields, special bytes of each record."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from shopsight.training.data.reading.records import Block, Positions

_QUOTE = 34


# What a byte can be; a record's look is what any of its bytes is.
_BLANK, _BOUND, _CONTROL, _HIGH, _QUOTED, _BACKSLASH, _EDGE = (1 << i for i in range(7))


@dataclass(frozen=True)
class Look:
    """What holds of each record, so that the usual clean record needs no closer look.

    `flags` uint8 [records]: what bytes it has; `fields` int64 [records]: how many fields, if quotes are text.
    """

    flags: NDArray[np.uint8]
    fields: Positions

    def high(self) -> Positions:
        """Records that are not ASCII alone."""
        found: Positions = np.flatnonzero(self.flags & _HIGH)
        return found

    def traits(self, records: Positions) -> Traits:
        """What holds of all of these records together."""
        any_of = int(np.bitwise_or.reduce(self.flags[records])) if records.size else 0
        untidy = any_of & (_EDGE | _HIGH | _QUOTED | _BACKSLASH)
        return Traits(tidy=not untidy, plain=not any_of & (_CONTROL | _QUOTED))


@dataclass(frozen=True)
class Traits:
    """tidy: no field needs stripping or may be a written null; plain: none can have a control character."""

    tidy: bool
    plain: bool


def look(block: Block, separator: str) -> Look:
    """Look at every byte of a block of CSV once."""
    kinds = np.zeros(256, dtype=np.uint8)
    kinds[:32] = _CONTROL
    kinds[127] = _CONTROL
    kinds[[9, 11, 12, 28, 29, 30, 31]] |= _BLANK
    kinds[32], kinds[ord('"')], kinds[ord("\\")] = _BLANK, _QUOTED, _BACKSLASH
    kinds[128:] = _HIGH
    kinds[[10, 13]] = 0
    kinds[ord(separator)] = _BOUND
    flags, fields = np.zeros(len(block), dtype=np.uint8), np.ones(len(block), dtype=np.int64)
    _look(_bytes(block), block.starts, block.stops, kinds, flags, fields)
    return Look(flags, fields)


def invalid_utf8(block: Block, suspects: Positions) -> Positions:
    """Those of the suspects that are not valid UTF-8."""
    broken = np.zeros(suspects.size, dtype=np.bool_)
    _find_broken_utf8(_bytes(block), block.starts[suspects], block.stops[suspects], broken)
    return suspects[broken]


def not_objects(block: Block) -> Positions:
    """The indices of records that cannot be one JSON object, by their quotes and brackets."""
    broken = np.zeros(len(block), dtype=np.bool_)
    _check_brackets(_bytes(block), block.starts, block.stops, broken)
    found: Positions = np.flatnonzero(broken)
    return found


def _bytes(block: Block) -> NDArray[np.uint8]:
    return np.frombuffer(block.data, dtype=np.uint8)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _look(data, starts, stops, kinds, flags, fields):  # type: ignore[no-untyped-def]
    one = np.uint8(1)
    for i in range(starts.size):
        record = data[starts[i] : stops[i]]
        seen, edges, before, separators = np.uint8(0), np.uint8(0), np.uint8(_BOUND), np.uint32(0)
        for k in range(record.size):
            kind = kinds[record[k]]
            seen |= kind
            separators += np.uint32((kind >> one) & one)
            # A blank just after a bound, or a bound just after a blank.
            edges |= (kind & (before >> one)) | ((kind >> one) & before)
            before = kind
        if (edges & one) | (before & one):
            seen |= np.uint8(_EDGE)
        flags[i] = seen
        fields[i] += separators


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _find_broken_utf8(data, starts, stops, broken):  # type: ignore[no-untyped-def]
    """RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF."""
    for i in range(starts.size):
        k, stop = starts[i], stops[i]
        while k < stop:
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
