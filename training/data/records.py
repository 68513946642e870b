"""Raw bytes to records: decompression, encodings, line and quote boundaries."""

from __future__ import annotations

import codecs
import gzip
import itertools
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from training.data.sources import IngestError

BLOCK_BYTES = 12 << 20
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
    path: Path,
    encoding: str,
    separator: str | None,
    num_fields: int,
    piece_bytes: int | None = None,
    has_header: bool = False,
) -> Iterator[Block]:
    """Yield the file's records block by block, blank lines and the header left out.

    With a `separator` quotes may hold line ends (CSV): an unclosed quote costs its own line only, because
    lines are joined only where that gives `num_fields` fields. Raises IngestError for a file that cannot be
    decompressed.
    """
    rest = b""
    for piece, is_last in _pieces(path, encoding, piece_bytes or BLOCK_BYTES):
        data = rest + piece
        if is_last and data and not data.endswith(b"\n"):
            data += b"\n"
        ends = _record_ends(data, separator, num_fields, is_last)
        stop = int(ends[-1]) if ends.size else 0
        rest = data[stop:]
        begin = 0
        if has_header and stop:  # the first line that is not blank
            lines = zip(itertools.chain([0], ends), ends, strict=False)
            first = next((i for i, (a, b) in enumerate(lines) if data[a:b].strip(b"\r\n")), None)
            if first is None:
                continue
            begin, ends, has_header = int(ends[first]), ends[first + 1 :] - ends[first], False
        if stop > begin:
            yield _block(data[begin:stop], ends)


def first_line(path: Path, encoding: str) -> bytes:
    """The first line that is not blank, without a byte order mark; raises IngestError for an empty file."""
    for block in read_blocks(path, encoding, None, 1, piece_bytes=1 << 16):
        if len(block):
            return block.record(0)
    raise IngestError(f"{path}: the file is empty; export it again or take it out of the sources file")


def guess_encoding(path: Path) -> str | None:
    """Which encoding a text file seems to have, None for UTF-8 and for UTF-16 with its mark.

    Chinese exports are GB 18030 where it fits and gives Chinese characters, all others Windows-1252.
    """
    with _open(path) as stream:
        head = stream.read(1 << 20)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return None
    runs = re.findall(rb"[\x80-\xff]+", head)
    for name in ("utf-8", "gb18030"):
        try:
            codecs.getincrementaldecoder(name)().decode(head)
        except UnicodeDecodeError:
            continue
        if name == "utf-8":
            return None
        # Common Chinese characters are two high bytes each; a European text has most of them alone.
        if 2 * sum(len(run) % 2 == 0 for run in runs) > len(runs):
            return name
    return "cp1252"


def _pieces(path: Path, encoding: str, piece_bytes: int) -> Iterator[tuple[bytes, bool]]:
    """Decompressed UTF-8 pieces and whether each is the last; there is always a last one."""
    try:
        with _open(path) as stream:
            piece = stream.read(piece_bytes)
            encoding = _encoding(encoding, piece)
            # What cannot be decoded comes out as bytes that are not UTF-8 either, so the row is refused.
            errors = "surrogatepass" if encoding.startswith("utf-16") else "surrogateescape"
            decoder = codecs.getincrementaldecoder(encoding)(errors=errors) if encoding != "utf-8" else None
            if decoder is None:
                _check_text(path, piece)
                piece = piece.removeprefix(codecs.BOM_UTF8)
            while True:
                following = stream.read(piece_bytes) if piece else b""
                if decoder is not None:
                    text = decoder.decode(piece, final=not following)
                    piece = text.encode("utf-8", errors=errors)
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


def _encoding(named: str, piece: bytes) -> str:
    """The encoding as the sources file names it; a file that begins with UTF-16's mark is UTF-16."""
    name = codecs.lookup(named).name
    if name == "utf-8" and piece.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return name


def _check_text(path: Path, piece: bytes) -> None:
    for magic, meaning in _SIGNATURES:
        if piece.startswith(magic):
            raise IngestError(f"{path}: is not text but {meaning}")
    head = piece[:4096]
    if b"\0" in head.split(b"\n")[0] or head.count(b"\0") * 20 > len(head):  # a lone one is a bad row
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
