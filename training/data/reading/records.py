"""Raw bytes to records: decompression, encodings, line ends."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from shopsight.training.data.errors import IngestError

BLOCK_BYTES = 12 << 20
HEAD_BYTES = 1 << 20

_RETURN = 13
_SIGNATURES = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", 'a ZIP archive (of a workbook say format = "xlsx", others unpack)'),
    (b"\xd0\xcf\x11\xe0", 'an old Excel workbook; say format = "xlsx"'),
    (b"SQLite format 3", "an SQLite database"),
    (b"PAR1", "a Parquet file; say format = \"parquet\""),
    (b"ORC", "an ORC file"),
)  # fmt: skip

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class RawText:
    """A text file, or text made of a file that is none (`content`, UTF-8); messages name its path."""

    path: Path
    encoding: str = "utf-8"
    content: bytes | None = None


# The end of each record (its line end included) and its form, of some text; whether nothing follows the text.
Split = Callable[[bytes, bool], tuple[Positions, NDArray[np.uint8]]]


@dataclass(frozen=True)
class Block:
    """A run of whole records: the bytes, and where each record starts and stops (line end excluded).

    `forms` uint8 [records] are those of training/data/reading/quoting.py; `num_lines` counts the line ends
    that the block had before blank lines were left out.
    """

    data: bytes
    starts: Positions
    stops: Positions
    forms: NDArray[np.uint8]
    num_lines: int

    def __len__(self) -> int:
        return int(self.starts.size)

    def record(self, index: int) -> bytes:
        """The bytes of one record without its line end."""
        return self.data[self.starts[index] : self.stops[index]]

    def text(self, index: int) -> str:
        """One record as text for people; bytes that are not UTF-8 are written as \\xNN."""
        return self.record(index).decode("utf-8", errors="backslashreplace")

    def join(self, indices: Positions) -> bytes:
        """The bytes of the chosen records, a newline between each and the next."""
        if indices.size == len(self):
            return self.data
        # Neighbouring records are copied as one run: few records are left out, so there are few runs.
        breaks = np.flatnonzero(np.diff(indices) != 1)
        firsts = indices[np.concatenate(([0], breaks + 1))] if indices.size else indices
        lasts = indices[np.concatenate((breaks, [indices.size - 1]))] if indices.size else indices
        runs = [self.data[a:b] for a, b in zip(self.starts[firsts], self.stops[lasts], strict=True)]
        return b"\n".join(runs)


def read_blocks(
    raw: RawText, split: Split | None = None, *, piece_bytes: int | None = None, skip: int = 0
) -> Iterator[Block]:
    """Yield the text's records block by block, without blank lines and without the first `skip` lines.

    A record is a line, or what `split` says. Raises IngestError for a file that cannot be decompressed.
    """
    rest = b""
    for piece, is_last in pieces_of(raw, piece_bytes or BLOCK_BYTES):
        data = rest + piece
        if is_last and data and not data.endswith(b"\n"):
            data += b"\n"
        while skip and (stop := data.find(b"\n") + 1):
            data, skip = data[stop:], skip - 1
        if skip:
            rest = data
            continue
        ends, forms = (split or _lines)(data, is_last)
        stop = int(ends[-1]) if ends.size else 0
        rest = data[stop:]
        if stop:
            yield _block(data[:stop], ends, forms)


def head_of(raw: RawText) -> bytes:
    """The first whole lines of a text, about HEAD_BYTES of them; raises IngestError for an empty file."""
    head = b""
    for piece, is_last in pieces_of(raw, HEAD_BYTES):
        head += piece
        if is_last:
            head += b"" if head.endswith(b"\n") else b"\n"
        stop = head.rfind(b"\n") + 1
        if head[:stop].strip():
            return head[:stop]
    raise empty(raw.path)


def empty(path: Path) -> IngestError:
    """What to say of a file without content."""
    return IngestError(f"{path}: the file is empty; export it again or take it out of the sources file")


def guess_encoding(path: Path) -> str | None:
    """Which encoding a text file seems to have, None for UTF-8 (also with bad bytes), UTF-16 and no text.

    Chinese exports are GB 18030 where it fits and gives Chinese characters, all others Windows-1252.
    """
    sample = b""
    with _open(path) as stream:
        head = stream.read(HEAD_BYTES)
        if _utf16(head) is not None or head.startswith(tuple(magic for magic, _ in _SIGNATURES)):
            return None
        while head and len(sample) < HEAD_BYTES:
            sample += b"\n".join(line for line in head.split(b"\n") if not line.isascii())
            head = stream.read(HEAD_BYTES)
    good, bad = _decoded_as("utf-8", sample)
    if good >= bad:
        return None
    runs = re.findall(rb"[\x80-\xff]+", sample)
    good, bad = _decoded_as("gb18030", sample)
    # Common Chinese characters are two high bytes each; a European text has most of them alone.
    if 2 * sum(len(run) % 2 == 0 for run in runs) > len(runs) and good >= 20 * bad:
        return "gb18030"
    return "cp1252"


def _decoded_as(encoding: str, sample: bytes) -> tuple[int, int]:
    """How many characters beyond ASCII a text has in an encoding, and how many bytes do not fit it."""
    text = sample.decode(encoding, errors="surrogateescape")
    bad = len(re.findall("[\udc80-\udcff]", text))
    return len(re.findall("[^\x00-\x7f]", text)) - bad, bad


def pieces_of(raw: RawText, piece_bytes: int) -> Iterator[tuple[bytes, bool]]:
    """Decompressed UTF-8 pieces and whether each is the last; there is always a last one.

    Raises IngestError for a file that is no text, or cannot be decompressed or decoded.
    """
    if raw.content is not None:
        for at in range(0, max(len(raw.content), 1), piece_bytes):
            yield raw.content[at : at + piece_bytes], at + piece_bytes >= len(raw.content)
        return
    path, encoding = raw.path, raw.encoding
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
            old_ends = None  # whether lines end with a carriage return alone
            while True:
                following = stream.read(piece_bytes) if piece else b""
                if decoder is not None:
                    text = decoder.decode(piece, final=not following)
                    piece = text.encode("utf-8", errors=errors)
                old_ends = b"\r" in piece and b"\n" not in piece if old_ends is None else old_ends
                piece = piece.replace(b"\r", b"\n") if old_ends else piece
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
    """The encoding as the sources file names it; a file that is plainly UTF-16 is UTF-16."""
    name = codecs.lookup(named).name
    return _utf16(piece) or name if name == "utf-8" else name


def _utf16(head: bytes) -> str | None:
    """UTF-16 by its mark, or by every other byte being zero."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    even, odd = head[:4096:2], head[1:4096:2]
    for zeros, others, name in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if zeros.count(0) > 0.6 * len(zeros) and others.count(0) * 20 <= len(others):
            return name
    return None


def _check_text(path: Path, piece: bytes) -> None:
    for magic, meaning in _SIGNATURES:
        if piece.startswith(magic):
            raise IngestError(f"{path}: is not text but {meaning}")
    head = piece[:4096]
    if b"\0" in head.split(b"\n")[0] or head.count(b"\0") * 20 > len(head):  # a lone one is a bad row
        raise IngestError(f"{path}: is binary, not text; look at what was exported")


def _lines(data: bytes, _: bool) -> tuple[Positions, NDArray[np.uint8]]:
    ends: Positions = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == 10) + 1
    return ends, np.zeros(ends.size, dtype=np.uint8)


def _block(data: bytes, ends: Positions, forms: NDArray[np.uint8]) -> Block:
    buffer, num_lines = np.frombuffer(data, dtype=np.uint8), data.count(b"\n")
    starts = np.concatenate(([0], ends[:-1]))
    stops = ends - 1
    stops = stops - ((buffer[np.maximum(stops - 1, 0)] == _RETURN) & (stops > starts))
    kept = stops > starts
    if kept.all():
        return Block(data, starts, stops, forms, num_lines)
    # Blank lines are no records; without them the bytes are contiguous records again.
    kept_data = b"\n".join(data[a:b] for a, b in zip(starts[kept], stops[kept], strict=True)) + b"\n"
    lengths = (stops - starts)[kept]
    new_ends = np.cumsum(lengths + 1)
    return Block(
        kept_data if lengths.size else b"", new_ends - lengths - 1, new_ends - 1, forms[kept], num_lines
    )
