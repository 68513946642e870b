"""Raw files to text columns: CSV, JSON Lines and Parquet; each row that cannot be read is named by number."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from training.data.digests import hash_spans
from training.data.records import Block, field_counts, first_line, invalid_utf8, not_objects, read_blocks
from training.data.sources import IngestError, Source, nearest

REFUSED_SCHEMA = {"row": pl.UInt32, "field": pl.String, "reason": pl.String}
_SUFFIXES = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
_PARQUET_ROWS = 250_000


@dataclass(frozen=True)
class Chunk:
    """Some rows of one file.

    `rows` has `row` (1-based data row, header not counted), `digest` (hash of the whole raw record) and one
    text column for each mapped field; `refused` has REFUSED_SCHEMA.
    """

    num_read: int
    rows: pl.DataFrame
    refused: pl.DataFrame


def files_of(source: Source) -> list[Path]:
    """The files that a source's path names (file, folder or glob), in order; raises IngestError for none."""
    path = source.base / source.path
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and _suffix(p) in _SUFFIXES)
    elif path.is_file():
        found = [path]
    else:
        try:
            found = sorted(p for p in source.base.glob(source.path) if p.is_file())
        except (NotImplementedError, ValueError):  # an absolute pattern
            found = sorted(
                p for p in Path(path.anchor).glob(str(path.relative_to(path.anchor))) if p.is_file()
            )
    if not found:
        raise IngestError(f"{source.label}: no file at {path}; the path is relative to the sources file")
    return found


def format_of(source: Source, path: Path) -> str:
    """The format of a file: as the source says, else by suffix."""
    if source.format is not None:
        return source.format
    if (known := _SUFFIXES.get(_suffix(path))) is None:
        raise IngestError(f'{path}: the suffix tells no format; say format = "csv", "jsonl" or "parquet"')
    return known


def header_of(source: Source, path: Path) -> list[str]:
    """The names of a file's columns; of JSON Lines, the keys of its first objects."""
    kind = format_of(source, path)
    if kind == "parquet":
        return next(_parquet_frames(path), pl.DataFrame()).columns
    if kind == "csv":
        return _header(source, path)[0]
    block = next(read_blocks(path, source.encoding, None, 1, piece_bytes=1 << 20), None)
    records = [block.record(i) for i in range(min(len(block), 100))] if block else []
    keys = [key for record in records if _is_object(record) for key in json.loads(record)]
    if not keys:
        raise IngestError(f"{path}: none of its first lines is a JSON object; write one object a line")
    return list(dict.fromkeys(keys))


def read_chunks(source: Source, path: Path) -> Iterator[Chunk]:
    """Read one file chunk by chunk, every field as text; raises IngestError for what is no such file."""
    kind = format_of(source, path)
    if kind == "parquet":
        yield from _read_parquet(source, path)
    elif kind == "jsonl":
        yield from _read_jsonl(source, path)
    else:
        yield from _read_csv(source, path)


def raw_texts(source: Source, path: Path, rows: NDArray[np.int64]) -> dict[int, str]:
    """The raw text of the given data rows, read from the file again (few rows are ever refused)."""
    wanted, texts, first = np.unique(rows), {}, 1
    for block in _raw_blocks(source, path):
        here = wanted[(wanted >= first) & (wanted < first + len(block))]
        for row in here.tolist():
            texts[row] = block.text(row - first)
        first += len(block)
    return texts


@dataclass(frozen=True)
class _Rows:
    """Records of a Parquet file, which have no text of their own, as JSON."""

    texts: pl.Series

    def __len__(self) -> int:
        return self.texts.len()

    def text(self, index: int) -> str:
        return str(self.texts[index])


def _raw_blocks(source: Source, path: Path) -> Iterator[Block | _Rows]:
    kind = format_of(source, path)
    if kind == "parquet":
        for frame in _parquet_frames(path):
            yield _Rows(_as_json(frame))
    elif kind == "jsonl":
        yield from read_blocks(path, source.encoding, None, 1)
    else:
        header, separator = _header(source, path)
        yield from _without_header(read_blocks(path, source.encoding, separator, len(header)))


# -- CSV


def _read_csv(source: Source, path: Path) -> Iterator[Chunk]:
    header, separator = _header(source, path)
    for name, column in source.columns.items():
        if column not in header:
            raise _missing(path, name, column, header)
    wanted = {column: header.index(column) for column in source.columns.values()}
    order = sorted(wanted, key=lambda column: wanted[column])

    def parse(text: bytes) -> pl.DataFrame:
        return pl.read_csv(
            io.BytesIO(text),
            has_header=False,
            schema={f"{i}": pl.String for i in range(len(header))},
            columns=[wanted[column] for column in order],
            separator=separator,
            new_columns=order,
        )

    first = 1
    blocks = read_blocks(path, source.encoding, separator, len(header))
    for block in _without_header(blocks):
        wrong_width = np.flatnonzero(field_counts(block, separator) != len(header))
        yield _chunk(source, block, first, wrong_width, _Parser(order, parse))
        first += len(block)


def _header(source: Source, path: Path) -> tuple[list[str], str]:
    line = first_line(path, source.encoding)
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise IngestError(
            f'{path}: the header is not UTF-8; say encoding = "latin-1", or which it is'
        ) from error
    separator = source.separator or max(",;\t|", key=text.count)
    header = [name.strip() for name in next(csv.reader([text], delimiter=separator))]
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise IngestError(f'{path}: the header names column "{twice}" twice; rename one')
    return header, separator


def _without_header(blocks: Iterator[Block]) -> Iterator[Block]:
    seen = False
    for block in blocks:
        if seen or not len(block):
            yield block
            continue
        seen = True
        begin = int(block.starts[1]) if len(block) > 1 else len(block.data)
        yield Block(block.data[begin:], block.starts[1:] - begin, block.stops[1:] - begin)


# -- JSON Lines


def _read_jsonl(source: Source, path: Path) -> Iterator[Chunk]:
    head = first_line(path, source.encoding).lstrip()
    if head.startswith(b"["):
        raise IngestError(f"{path}: is a JSON array, not JSON Lines; write one object a line")
    columns = list(dict.fromkeys(source.columns.values()))
    seen: set[str] = set()

    def parse(text: bytes) -> pl.DataFrame:
        frame = pl.read_ndjson(io.BytesIO(text), schema=dict.fromkeys(columns, pl.String))
        return frame.select(columns)

    first = 1
    for block in read_blocks(path, source.encoding, None, 1):
        seen |= {c for c in columns if c not in seen and json.dumps(c).encode() in block.data}
        seen |= {
            c for c in columns if c not in seen and json.dumps(c, ensure_ascii=False).encode() in block.data
        }
        yield _chunk(source, block, first, not_objects(block), _Parser(columns, parse, _is_object))
        first += len(block)
    for name, column in source.columns.items():
        if column not in seen:
            raise _missing(path, name, column, list(json.loads(head)) if _is_object(head) else [])


def _is_object(record: bytes) -> bool:
    try:
        return isinstance(json.loads(record), dict)
    except (ValueError, RecursionError):
        return False


# -- what both have in common


@dataclass(frozen=True)
class _Parser:
    """Joined records to a frame of text; `accepts` is a slower check of one record, if there is one."""

    columns: list[str]
    parse: Callable[[bytes], pl.DataFrame]
    accepts: Callable[[bytes], bool] | None = None


def _chunk(source: Source, block: Block, first: int, malformed: NDArray[np.int64], parser: _Parser) -> Chunk:
    bad_text = invalid_utf8(block)
    good = np.ones(len(block), dtype=bool)
    good[bad_text] = False
    good[malformed] = False
    frame, kept = _parse(block, np.flatnonzero(good), parser)
    good[kept] = False  # what is left could not be parsed
    malformed = np.setdiff1d(np.union1d(malformed, np.flatnonzero(good)), bad_text)
    refused = [_refused(bad_text + first, "broken_utf8"), _refused(malformed + first, "malformed_row")]
    data = np.frombuffer(block.data, dtype=np.uint8)
    rows = frame.select(
        pl.Series("row", kept + first, dtype=pl.UInt32),
        pl.Series("digest", hash_spans(data, block.starts[kept], block.stops[kept])),
        *(pl.col(column).alias(name) for name, column in source.columns.items()),
    )
    return Chunk(len(block), rows, pl.concat(refused))


def _parse(
    block: Block, indices: NDArray[np.int64], parser: _Parser
) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    """Parse the records at `indices`; those that cannot be parsed are left out of the second result."""
    frame = _attempt(block, indices, parser)
    if frame is None and parser.accepts is not None:
        indices = np.array([i for i in indices.tolist() if parser.accepts(block.record(i))], dtype=np.int64)
        frame = _attempt(block, indices, parser)
    if frame is not None:
        return frame, indices
    if indices.size == 1:
        return pl.DataFrame(schema=dict.fromkeys(parser.columns, pl.String)), indices[:0]
    halves = [_parse(block, half, parser) for half in np.array_split(indices, 2)]
    return pl.concat([half for half, _ in halves]), np.concatenate([kept for _, kept in halves])


def _attempt(block: Block, indices: NDArray[np.int64], parser: _Parser) -> pl.DataFrame | None:
    if not indices.size:
        return pl.DataFrame(schema=dict.fromkeys(parser.columns, pl.String))
    try:
        frame = parser.parse(block.join(indices))
    except (pl.exceptions.PolarsError, OSError):
        return None
    return frame if frame.height == indices.size else None


def _refused(rows: NDArray[np.int64], reason: str) -> pl.DataFrame:
    frame = pl.DataFrame({"row": pl.Series(rows, dtype=pl.UInt32)})
    return frame.with_columns(pl.lit(None, dtype=pl.String).alias("field"), pl.lit(reason).alias("reason"))


def _missing(path: Path, name: str, column: str, known: list[str]) -> IngestError:
    return IngestError(f'{path}: no column "{column}" (for {name}){nearest(column, known)}')


def _suffix(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


# -- Parquet


def _read_parquet(source: Source, path: Path) -> Iterator[Chunk]:
    first = 1
    for frame in _parquet_frames(path):
        for name, column in source.columns.items():
            if column not in frame.columns:
                raise _missing(path, name, column, frame.columns)
        digest = _as_json(frame).to_frame().select(pl.first().cast(pl.Binary)).to_series()
        array = digest.to_arrow().cast(pa.large_binary())
        _, offsets, data = array.buffers()
        spans = np.frombuffer(offsets, dtype=np.int64)
        rows = frame.select(
            pl.int_range(first, first + frame.height, dtype=pl.UInt32).alias("row"),
            pl.Series("digest", hash_spans(np.frombuffer(data, np.uint8), spans[:-1], spans[1:])),
            *(_as_text(frame[column]).alias(name) for name, column in source.columns.items()),
        )
        yield Chunk(frame.height, rows, pl.DataFrame(schema=REFUSED_SCHEMA))
        first += frame.height


def _parquet_frames(path: Path) -> Iterator[pl.DataFrame]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
                yield frame.select(pl.exclude(pl.Binary))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise IngestError(f"{path}: is not a readable Parquet file ({error})") from error


def _as_json(frame: pl.DataFrame) -> pl.Series:
    texts = [_as_text(frame[name]).alias(name) for name in frame.columns]
    return pl.select(pl.struct(texts).struct.json_encode().alias("json")).to_series()


def _as_text(column: pl.Series) -> pl.Series:
    if isinstance(column.dtype, pl.Datetime):
        if column.dtype.time_zone:
            return column.dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
        return column.dt.strftime("%Y-%m-%dT%H:%M:%S%.6f")
    if column.dtype.is_float() and (column.drop_nulls() % 1 == 0).all():
        return column.cast(pl.Int64, strict=False).cast(pl.String)  # ids that pandas made floats
    if column.dtype.is_nested():
        wrapped = pl.select(pl.struct(column.alias("value")).struct.json_encode()).to_series()
        return wrapped.str.slice(9).str.head(-1)  # without {"value": and }
    return column.cast(pl.String)
