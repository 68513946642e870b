"""Raw bytes to records: decompression, line and quote boundaries, and which records are not UTF-8."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numba
import numpy as np
from numpy.typing import NDArray

from training.data.sources import IngestError

BLOCK_BYTES = 32 << 20
# A quoted field that runs over more lines than this is a stray quote, not a text.
MAX_LINES_OF_A_RECORD = 1000

_NEWLINE, _QUOTE, _RETURN = 10, 34, 13
_SIGNATURES = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive (an Excel workbook is one); export it as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; export it as CSV"),
    (b"SQLite format 3", "an SQLite database"),
    (b"PAR1", "a Parquet file; say format = \"parquet\""),
    (b"ORC", "an ORC file"),
)  # fmt: skip

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """A run of whole records: the bytes, and where each record starts and stops (line end excluded)."""

    data: bytes
    starts: Positions
    stops: Positions

    def __len__(self) -> int:
        return int(self.starts.size)

    def record(self, index: int) -> bytes:
        """The bytes of one record without its line end."""
        return self.data[self.starts[index] : self.stops[index]]

    def text(self, index: int) -> str:
        """One record as text for people; bytes that are not UTF-8 are written as \\xNN."""
        return self.record(index).decode("utf-8", errors="backslashreplace")

    def join(self, indices: Positions) -> bytes:
        """The bytes of the chosen records, a newline after each."""
        if indices.size == len(self):
            return self.data
        # Neighbouring records are copied as one run: few records are left out, so there are few runs.
        breaks = np.flatnonzero(np.diff(indices) != 1)
        firsts = indices[np.concatenate(([0], breaks + 1))] if indices.size else indices
        lasts = indices[np.concatenate((breaks, [indices.size - 1]))] if indices.size else indices
        runs = [self.data[a:b] for a, b in zip(self.starts[firsts], self.stops[lasts], strict=True)]
        return b"\n".join(runs)


def read_blocks(
    path: Path, encoding: str, separator: str | None, num_fields: int, piece_bytes: int = BLOCK_BYTES
) -> Iterator[Block]:
    """Yield the file's records block by block, blank lines left out.

    With a `separator` quotes may hold line ends (CSV): an unclosed quote costs its own line only, because
    lines are joined only where that gives `num_fields` fields. Raises IngestError for a file that cannot be
    decompressed.
    """
    rest = b""
    for piece, is_last in _pieces(path, encoding, piece_bytes):
        data = rest + piece
        if is_last and data and not data.endswith(b"\n"):
            data += b"\n"
        ends = _record_ends(data, separator, num_fields, is_last)
        stop = int(ends[-1]) if ends.size else 0
        rest = data[stop:]
        if stop:
            yield _block(data[:stop], ends)


def first_line(path: Path, encoding: str) -> bytes:
    """The first line that is not blank, without a byte order mark; raises IngestError for an empty file."""
    for block in read_blocks(path, encoding, None, 1, piece_bytes=1 << 16):
        if len(block):
            return block.record(0)
    raise IngestError(f"{path}: the file is empty; export it again or take it out of the sources file")


def invalid_utf8(block: Block) -> Positions:
    """The indices of records that are not valid UTF-8."""
    bad: list[int] = []
    _bisect_utf8(memoryview(block.data), block.starts, block.stops, 0, len(block), bad)
    return np.array(bad, dtype=np.int64)


def field_counts(block: Block, separator: str) -> Positions:
    """How many fields each record has; separators inside quotes do not count."""
    counts = np.ones(len(block), dtype=np.int64)
    data = np.frombuffer(block.data, dtype=np.uint8)
    _count_fields(data, block.starts, block.stops, np.uint8(ord(separator)), counts)
    return counts


def not_objects(block: Block) -> Positions:
    """The indices of records that cannot be one JSON object, by their quotes and brackets."""
    broken = np.zeros(len(block), dtype=np.bool_)
    _check_brackets(np.frombuffer(block.data, dtype=np.uint8), block.starts, block.stops, broken)
    found: Positions = np.flatnonzero(broken)
    return found


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


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _count_fields(data, starts, stops, separator, counts):  # type: ignore[no-untyped-def]
    for i in range(starts.size):
        inside = False
        for k in range(starts[i], stops[i]):
            if data[k] == _QUOTE:
                inside = not inside
            elif data[k] == separator and not inside:
                counts[i] += 1


def _pieces(path: Path, encoding: str, piece_bytes: int) -> Iterator[tuple[bytes, bool]]:
    """Decompressed UTF-8 pieces and whether each is the last; there is always a last one."""
    decoder = None
    if codecs.lookup(encoding).name != "utf-8":
        decoder = codecs.getincrementaldecoder(encoding)(errors="surrogateescape")
    try:
        with _open(path) as stream:
            piece, is_first = stream.read(piece_bytes), True
            while True:
                following = stream.read(piece_bytes) if piece else b""
                if is_first and decoder is None:
                    _check_text(path, piece)
                    piece = piece.removeprefix(codecs.BOM_UTF8)
                is_first = False
                if decoder is not None:
                    text = decoder.decode(piece, final=not following)
                    piece = text.encode("utf-8", errors="surrogateescape")
                yield piece, not following
                if not following:
                    return
                piece = following
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise IngestError(f"{path}: damaged gzip ({error}); copy or export the file again") from error
    except UnicodeError as error:
        raise IngestError(f"{path}: is not {encoding} ({error}); set the right encoding") from error
    except OSError as error:
        raise IngestError(f"{path}: cannot be read ({error.strerror or error})") from error


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        magic = stream.read(2)
    if magic == b"\x1f\x8b":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if path.suffix == ".gz":
        raise IngestError(f"{path}: named .gz but is not gzip; rename it or compress it again")
    return path.open("rb")


def _check_text(path: Path, piece: bytes) -> None:
    for magic, meaning in _SIGNATURES:
        if piece.startswith(magic):
            raise IngestError(f"{path}: is not text but {meaning}")
    if piece.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise IngestError(f'{path}: is UTF-16; say encoding = "utf-16" in its source')
    if b"\0" in piece[:4096]:
        raise IngestError(f"{path}: is binary, not text; look at what was exported")


def _block(data: bytes, ends: Positions) -> Block:
    buffer = np.frombuffer(data, dtype=np.uint8)
    starts = np.concatenate(([0], ends[:-1]))
    stops = ends - 1
    stops = stops - ((buffer[np.maximum(stops - 1, 0)] == _RETURN) & (stops > starts))
    kept = stops > starts
    if kept.all():
        return Block(data, starts, stops)
    # Blank lines are no records; without them the bytes are contiguous records again.
    kept_data = b"\n".join(data[a:b] for a, b in zip(starts[kept], stops[kept], strict=True)) + b"\n"
    lengths = (stops - starts)[kept]
    new_ends = np.cumsum(lengths + 1)
    return Block(kept_data if lengths.size else b"", new_ends - lengths - 1, new_ends - 1)


def _record_ends(data: bytes, separator: str | None, num_fields: int, is_last: bool) -> Positions:
    """Offsets just after each record's newline."""
    buffer = np.frombuffer(data, dtype=np.uint8)
    ends: Positions = np.flatnonzero(buffer == _NEWLINE) + 1
    if separator is None or b'"' not in data or not ends.size:
        return ends
    quotes = np.flatnonzero(buffer == _QUOTE)
    odd = np.flatnonzero(np.diff(np.searchsorted(quotes, ends), prepend=0) % 2)
    if not odd.size:
        return ends
    inner = np.zeros(ends.size, dtype=bool)
    lines, at = odd.tolist(), 0
    while at < len(lines):
        first = lines[at]
        start = int(ends[first - 1]) if first else 0
        follower = lines[at + 1] if at + 1 < len(lines) else None
        if follower is None and not is_last and ends.size - first < MAX_LINES_OF_A_RECORD:
            inner[first:] = True  # its end may lie in the next piece
        elif (
            follower is not None
            and follower - first < MAX_LINES_OF_A_RECORD
            and _opens_quote(data[start : int(ends[first])], separator)
            and _num_fields(data[start : int(ends[follower])], separator) == num_fields
        ):
            inner[first:follower] = True
            at += 1
        at += 1
    return ends[~inner]


def _opens_quote(line: bytes, separator: str) -> bool:
    return line.startswith(b'"') or separator.encode() + b'"' in line


def _num_fields(record: bytes, separator: str) -> int:
    return 1 + sum(part.count(separator.encode()) for part in record.split(b'"')[::2])


def _bisect_utf8(
    data: memoryview, starts: Positions, stops: Positions, low: int, high: int, bad: list[int]
) -> None:
    if low >= high:
        return
    try:
        codecs.utf_8_decode(data[starts[low] : stops[high - 1]], "strict", True)
    except UnicodeDecodeError:
        if high - low == 1:
            bad.append(low)
            return
        middle = (low + high) // 2
        _bisect_utf8(data, starts, stops, low, middle, bad)
        _bisect_utf8(data, starts, stops, middle, high, bad)
