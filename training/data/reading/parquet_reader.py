"""Reads Parquet: typed columns become text, so that the same cleaning rules apply."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from shopsight.training.data.digests import hash_spans, text_buffers
from shopsight.training.data.errors import IngestError
from shopsight.training.data.reading.chunks import REFUSED_SCHEMA, Chunk, missing_column
from shopsight.training.data.sources.source import Source

_ROWS = 250_000


def read_parquet(source: Source, path: Path) -> Iterator[Chunk]:
    """Read a Parquet file; raises IngestError for a column that it does not have, or a damaged file."""
    first = 1
    for frame in _frames(path):
        for name, column in source.columns.items():
            if column not in frame.columns:
                raise missing_column(path, name, column, frame.columns)
        texts = _as_json(frame)
        data, offsets = text_buffers(texts)
        digests = hash_spans(data, offsets[:-1], offsets[1:], f"{source.kind}:{source.name}:parquet")
        rows = frame.select(
            pl.int_range(first, first + frame.height, dtype=pl.UInt32).alias("row"),
            *digests.columns(),
            *(_as_text(frame[column]).alias(name) for name, column in source.columns.items()),
        )

        def raw(row: int, texts: pl.Series = texts, first: int = first) -> str:
            return str(texts[row - first])

        yield Chunk(frame.height, rows, pl.DataFrame(schema=REFUSED_SCHEMA), False, False, raw)
        first += frame.height


def parquet_header(path: Path) -> list[str]:
    """The names of the columns, also of a file without rows."""
    try:
        empty = pq.read_schema(path).empty_table()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise _unreadable(path, error) from error
    return pl.DataFrame(pl.from_arrow(empty)).select(pl.exclude(pl.Binary)).columns


def _frames(path: Path) -> Iterator[pl.DataFrame]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS):
                frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
                yield frame.select(pl.exclude(pl.Binary))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> IngestError:
    return IngestError(f"{path}: is not a readable Parquet file ({error})")


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
