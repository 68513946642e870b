"""Finds the ends of CSV records if quoted fields contain line ends and some quotes are stray.

A line is read strictly: a field is quoted from its first byte to a quote before a separator or the line's
end, or it is not quoted at all and quotes in it are text. A record that goes on over several lines is
believed only if it closes with the right number of fields, and neither its first line, nor its last, nor any
line between looks like a record by itself. Otherwise the first of these lines is refused alone, and reading
goes on with the next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray

from shopsight.training.data.sources.keys import QUOTINGS

Positions = NDArray[np.int64]
Forms = NDArray[np.uint8]
Masks = NDArray[np.uint32]

_DOUBLED, _BACKSLASH, _LITERAL = range(len(QUOTINGS))

# What a record is, by its quotes.
PLAIN, QUOTED, FREE, ESCAPED, UNCLOSED, STRAY, WRONG = range(7)
"""PLAIN: no quotes. QUOTED: as a parser takes it. FREE, ESCAPED: well formed, to be written anew (quotes in a
field that is not quoted; backslashes). UNCLOSED, STRAY: faults of quotes. WRONG: wrong number of fields."""

# A quoted field that runs over more lines than this is a stray quote, not a text.
MAX_LINES_OF_A_RECORD = 1000
_MAX_FIELDS = 4096

_DONE, _OPEN, _BROKEN = range(3)
_EMPTY, _IS_QUOTED, _IS_BARE = np.uint32(1 << 31), np.uint32(1 << 30), np.uint32(1 << 29)
_FIRST = 16  # the classes of a field's first byte stand above the classes of all of its bytes
_FIRST_BITS = np.uint32(0x1FFF0000)
# A class of bytes is usual in a column when one record in so many has it.
_USUAL_ONE_IN = 200
_LEAST_LEARNT = 5


def _classes() -> Masks:
    groups = [b"0123456789", b"abcdefghijklmnopqrstuvwxyz", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b" ", b"-_+"]
    groups += [b".,", b":", b"/\\", b"@", b"\"'"]
    table = np.full(256, 1 << 10, dtype=np.uint32)
    table[:32], table[128:] = 1 << 12, 1 << 11
    for bit, group in enumerate(groups):
        table[list(group)] = 1 << bit
    return table


_CLASSES = _classes()


@dataclass(frozen=True)
class Splitter:
    """Splits text into records of `num_fields` fields.

    `usual` uint32 [num_fields]: the classes of bytes in each column, which distinguish a record from a line
    of a text.
    """

    separator: int
    num_fields: int
    quoting: str
    usual: Masks

    def split(self, data: bytes, is_last: bool) -> tuple[Positions, Forms]:
        """Return the offset just after each record's line end, and each record's form.

        A record whose end may lie in what follows is left out, unless there is nothing to follow.
        """
        buffer = np.frombuffer(data, dtype=np.uint8)
        ends: Positions = np.flatnonzero(buffer == 10) + 1
        if self.quoting == "none" or b'"' not in data:
            return ends, np.zeros(ends.size, dtype=np.uint8)
        last, forms = np.empty(ends.size, dtype=np.int64), np.empty(ends.size, dtype=np.uint8)
        escaped = self.quoting == "backslash"
        most = MAX_LINES_OF_A_RECORD
        num = _split(
            buffer, ends, self.separator, self.num_fields, escaped, self.usual, most, is_last, last, forms
        )
        return ends[last[:num]], forms[:num]


def splitter(sample: bytes, separator: str, num_fields: int, quoting: str | None) -> Splitter:
    """Learn from the first whole lines of a file what its columns look like and how it writes quotes.

    `quoting` is one of QUOTINGS where the caller knows. What columns look like is learnt from records of one
    line: first with every record of several lines believed, so that no line of a text is taken for a record,
    then again with what was learnt.
    """
    found = Splitter(ord(separator), num_fields, quoting or "doubled", np.zeros(num_fields, dtype=np.uint32))
    if found.quoting == "none" or b'"' not in sample:
        return found
    lines: Positions = np.flatnonzero(np.frombuffer(sample, dtype=np.uint8) == 10) + 1
    for _ in range(2):
        ends, _forms = found.split(sample, True)
        num, usual, seen = _learnt(found, sample, ends)
        if num < max(_LEAST_LEARNT, lines.size // 10):
            _, usual, seen = _learnt(found, sample, lines, strictly=True)
        found = replace(found, usual=usual)
        if quoting is None:
            found = replace(found, quoting=QUOTINGS[int(seen[_BACKSLASH] > seen[_DOUBLED])])
    if quoting is not None:
        return found
    good, saved = _value_of_quotes(found, sample)
    return replace(found, quoting="none") if saved > good else found


def _learnt(
    found: Splitter, sample: bytes, ends: Positions, strictly: bool = False
) -> tuple[int, Masks, Positions]:
    """How many records of one line there are, the classes of their columns, how they write quotes.

    `strictly` leaves out lines with a quote in a field that is not quoted: the end of a text may look so.
    """
    counts, seen = np.zeros((found.num_fields, 32), dtype=np.int64), np.zeros(2, dtype=np.int64)
    buffer = np.frombuffer(sample, dtype=np.uint8)
    num = int(_learn(buffer, ends, found.separator, found.num_fields, strictly, counts, seen))
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    usual = np.where(counts * _USUAL_ONE_IN >= max(num, 1), bits, np.uint32(0))
    return num, np.bitwise_or.reduce(usual, axis=1).astype(np.uint32), seen


def _value_of_quotes(found: Splitter, sample: bytes) -> tuple[int, int]:
    """Count records with a quoted field, and records that read well only when quotes are plain text."""
    ends, forms = found.split(sample, True)
    buffer, starts = np.frombuffer(sample, dtype=np.uint8), np.concatenate(([0], ends[:-1]))
    return tuple(_count_quoted(buffer, starts, ends, forms, found.separator, found.num_fields))  # type: ignore[return-value]


def rewritten(data: bytes, starts: Positions, stops: Positions, forms: Forms, separator: int) -> bytes:
    """The records one after the other, a newline after each, in the form that a parser takes."""
    lengths = stops - starts
    room = int(lengths.sum()) + 3 * int(lengths[forms > QUOTED].sum()) + lengths.size + 16
    out = np.empty(room, dtype=np.uint8)
    size = _rewrite(np.frombuffer(data, dtype=np.uint8), starts, stops, forms, separator, out)
    return out[:size].tobytes()


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _walk(data, k, stop, sep, mode, inside, masks):  # type: ignore[no-untyped-def]
    """Read one line, from inside a quoted field or from the beginning of a record.

    Returns the number of fields that begin here, how it ended, whether it must be written anew, and how many
    of its quoted fields have doubled quotes and have none. `masks` (empty, or one a field) takes what bytes
    the fields have.
    """
    fields, odd, doubled, simple, note = 0, False, 0, 0, masks.size > 0
    while True:
        mask = np.uint32(0)
        if inside or (mode != _LITERAL and k < stop and data[k] == 34):
            if not inside:
                k += 1
                fields += 1
            inside, closed, first, twice = False, False, True, 0
            while k < stop:
                c = data[k]
                if c == 92 and mode == _BACKSLASH and k + 1 < stop:
                    odd = True
                    k += 1
                elif c == 34:
                    if k + 1 < stop and data[k + 1] == 34:
                        twice = 1
                        k += 1
                    else:
                        closed = True
                        k += 1
                        break
                if note:
                    mask |= _CLASSES[data[k]]
                    if first:
                        mask |= _CLASSES[data[k]] << np.uint32(_FIRST)
                        first = False
                k += 1
            if not closed:
                return fields, _OPEN, odd, doubled, simple
            if k < stop and data[k] != sep:
                return fields, _BROKEN, odd, doubled, simple
            doubled += twice
            simple += 1 - twice
            mask |= _EMPTY if first else _IS_QUOTED
        else:
            fields += 1
            begin = k
            while k < stop and data[k] != sep:
                odd |= data[k] == 34
                if note:
                    mask |= _CLASSES[data[k]]
                k += 1
            if note:
                mask |= _EMPTY if k == begin else _IS_BARE | (_CLASSES[data[begin]] << np.uint32(_FIRST))
        if note and 0 < fields <= masks.size:
            masks[fields - 1] = mask
        if k >= stop:
            return fields, _DONE, odd, doubled, simple
        k += 1


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _bounds(data, ends, i):  # type: ignore[no-untyped-def]
    """Where line i starts and stops, its line end excluded."""
    start, stop = ends[i - 1] if i else 0, ends[i] - 1
    if stop > start and data[stop - 1] == 13:
        stop -= 1
    return start, stop


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _has_quote(data, start, stop):  # type: ignore[no-untyped-def]
    k = start
    while k < stop and data[k] != 34:
        k += 1
    return k < stop


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _looks_whole(data, start, stop, sep, n, usual, masks):  # type: ignore[no-untyped-def]
    """Whether a line has n fields that look like those of the columns."""
    for mode in (_DOUBLED, _BACKSLASH, _LITERAL):
        fields, state, _, _, _ = _walk(data, start, stop, sep, mode, False, masks)
        if state == _DONE and fields == n:
            misses = 0
            for f in range(n):
                misses += (masks[f] & ~usual[f]) != 0
            if misses <= (n - 1) // 3:
                return True
    return False


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _looks_whole_but(data, start, stop, sep, n, usual, masks, at, is_last):  # type: ignore[no-untyped-def]
    """Whether a line, its quotes taken as text, has all columns, those after column `at` as they look.

    Of the last line of a record it is those up to `at`.
    """
    fields, _, _, _, _ = _walk(data, start, stop, sep, _LITERAL, False, masks)
    extra = fields - n
    if extra < 0 or fields > masks.size:
        return False
    misses = 0
    if is_last:
        # Behind the quote the line is the same whether it ends a record or is one: what is before it tells.
        for f in range(at):
            misses += (masks[f] & ~usual[f]) != 0
        misses += (masks[at] & ~usual[at] & (_FIRST_BITS | _EMPTY)) != 0
        return misses <= at // 3
    compared = n - 1 - at
    for f in range(at + 1, n):
        misses += (masks[f + extra] & ~usual[f]) != 0
    return misses <= (compared - 1) // 3


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _close(data, ends, i, sep, n, mode, usual, most, is_last, masks):  # type: ignore[no-untyped-def]
    """The last line of the record that opens a quote on line i; -1: there is none; -2: it may follow."""
    nothing = masks[:0]
    start, stop = _bounds(data, ends, i)
    total, _, odd, _, _ = _walk(data, start, stop, sep, mode, False, nothing)
    at = total - 1
    if total > n or (at < n - 1 and _looks_whole_but(data, start, stop, sep, n, usual, masks, at, False)):
        return -1, odd
    for j in range(i + 1, min(ends.size, i + most)):
        start, stop = _bounds(data, ends, j)
        more, state, line_odd, _, _ = _walk(data, start, stop, sep, mode, True, nothing)
        total += more
        odd |= line_odd
        if state == _BROKEN or total > n:
            return -1, odd
        if state == _DONE:
            swallows = at > 0 and _looks_whole_but(data, start, stop, sep, n, usual, masks, at, True)
            return (-1 if total != n or swallows else j), odd
        if n > 1 and _looks_whole(data, start, stop, sep, n, usual, masks):
            return -1, odd
        at = total - 1
    return (-1 if is_last or ends.size - i >= most else -2), odd


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _record(data, ends, i, sep, n, escaped, usual, most, is_last, masks):  # type: ignore[no-untyped-def]
    """The form and the last line of the record that begins on line i (-2: it may follow)."""
    nothing = masks[:0]
    start, stop = _bounds(data, ends, i)
    first = _BACKSLASH if escaped else _DOUBLED
    form, states = WRONG, (0, 0)
    for mode in (first, 1 - first):
        fields, state, odd, _, _ = _walk(data, start, stop, sep, mode, False, nothing)
        if state == _DONE and fields == n:
            return (QUOTED if not odd else ESCAPED if mode == _BACKSLASH else FREE), i
        if mode == first:
            form = WRONG if state == _DONE else UNCLOSED if state == _OPEN else STRAY
            states = (state, 0)
        else:
            states = (states[0], state)
    for turn in range(2):
        if states[turn] == _OPEN:
            mode = first if turn == 0 else 1 - first
            j, odd = _close(data, ends, i, sep, n, mode, usual, most, is_last, masks)
            if j == -2:
                return PLAIN, j
            if j > i:
                return (QUOTED if not odd else ESCAPED if mode == _BACKSLASH else FREE), j
    return form, i


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _split(data, ends, sep, n, escaped, usual, most, is_last, last, forms):  # type: ignore[no-untyped-def]
    masks, i, num = np.zeros(max(n, _MAX_FIELDS), dtype=np.uint32), 0, 0
    while i < ends.size:
        form, j = PLAIN, i
        if _has_quote(data, ends[i - 1] if i else 0, ends[i]):
            form, j = _record(data, ends, i, sep, n, escaped, usual, most, is_last, masks)
            if j == -2:
                break
        last[num], forms[num] = j, form
        num += 1
        i = j + 1
    return num


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _learn(data, ends, sep, n, strictly, counts, seen):  # type: ignore[no-untyped-def]
    """Count by column the classes of bytes in the lines that are records.

    `seen` int64 [2]: lines with doubled quotes, and lines that only backslashes explain.
    """
    masks, num = np.zeros(max(n, _MAX_FIELDS), dtype=np.uint32), 0
    for i in range(ends.size):
        start, stop = _bounds(data, ends, i)
        one_line = stop > start
        for k in range(start, stop):
            one_line &= data[k] != 10
        if not one_line:
            continue
        fields, state, odd, doubled, _ = _walk(data, start, stop, sep, _DOUBLED, False, masks)
        if state == _DONE and fields == n:
            if strictly and odd:
                continue
            seen[_DOUBLED] += doubled > 0
        else:
            fields, state, _, _, _ = _walk(data, start, stop, sep, _BACKSLASH, False, masks)
            if state != _DONE or fields != n:
                continue
            seen[_BACKSLASH] += 1
        num += 1
        for f in range(n):
            for bit in range(32):
                counts[f, bit] += (masks[f] >> np.uint32(bit)) & np.uint32(1)
    return num


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _count_quoted(data, starts, ends, forms, sep, n):  # type: ignore[no-untyped-def]
    nothing, good, saved = np.zeros(0, dtype=np.uint32), 0, 0
    for i in range(starts.size):
        stop = ends[i] - 1
        if stop > starts[i] and data[stop - 1] == 13:
            stop -= 1
        if forms[i] == QUOTED:
            good += 1
        elif forms[i] == FREE or forms[i] == ESCAPED:
            mode = _BACKSLASH if forms[i] == ESCAPED else _DOUBLED
            _, _, _, doubled, simple = _walk(data, starts[i], stop, sep, mode, False, nothing)
            good += doubled + simple > 0
        elif forms[i] > ESCAPED:
            saved += _walk(data, starts[i], stop, sep, _LITERAL, False, nothing)[0] == n
    return good, saved


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _escapes(data, k, stop):  # type: ignore[no-untyped-def]
    """Whether the backslash at k stands before a quote, or before a backslash that does."""
    if k + 1 < stop and data[k + 1] == 34:
        return True
    return k + 2 < stop and data[k + 1] == 92 and data[k + 2] == 34


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _rewrite(data, starts, stops, forms, sep, out):  # type: ignore[no-untyped-def]
    size = 0
    for i in range(starts.size):
        k, stop = starts[i], stops[i]
        while forms[i] > QUOTED:  # field by field
            quoted = k < stop and data[k] == 34
            begin = size
            out[size] = 34
            size += 1
            k += quoted
            while k < stop and (quoted or data[k] != sep):
                c = data[k]
                if c == 92 and forms[i] == ESCAPED and _escapes(data, k, stop):
                    k += 1
                    c = data[k]
                elif quoted and c == 34:
                    if k + 1 < stop and data[k + 1] == 34:
                        k += 1
                    else:
                        k += 1
                        break
                out[size] = c
                size += 1
                if c == 34:
                    out[size] = c
                    size += 1
                k += 1
            if size == begin + 1 and not quoted:
                size = begin  # an empty field is no value, a quoted one is an empty value
            else:
                out[size] = 34
                size += 1
            if k >= stop:
                break
            out[size] = sep
            size += 1
            k += 1
        while k < stop:
            out[size] = data[k]
            size += 1
            k += 1
        out[size] = 10
        size += 1
    return size
