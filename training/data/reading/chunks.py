"""A chunk of a raw file: its records as columns of text, and those that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.training.data.digests import hash_spans
from shopsight.training.data.errors import IngestError
from shopsight.training.data.reading.extent import Extent, extent_of
from shopsight.training.data.reading.records import Block
from shopsight.training.data.reading.scanning import Traits
from shopsight.training.data.sources.faults import nearest
from shopsight.training.data.sources.source import Source

# source_id: whose row it is, where that could still be read.
REFUSED_SCHEMA = {
    "row": pl.UInt32, "field": pl.String, "reason": pl.String, "raw": pl.String, "source_id": pl.String,
}  # fmt: skip
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Chunk:
    """Some rows of one file.

    `rows` has `row` (1-based data row, header not counted), `hi` and `lo` (hash of the whole raw record) and
    one text column for each mapped field; `refused` has REFUSED_SCHEMA. `tidy` says that no field has white
    space around it, `plain` that none has a control character. `raw` gives the raw text of a row. `notes` are
    what a person should know of how the file is read.
    """

    num_read: int
    rows: pl.DataFrame
    refused: pl.DataFrame
    tidy: bool
    plain: bool
    raw: Callable[[int], str]
    extent: Extent | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parser:
    """Joined records to a frame of text; `accepts` is a slower check of one record, if there is one.

    `layout` tells records apart that are the same bytes and mean
    something else (the header of a CSV file).
    """

    columns: list[str]
    layout: str
    parse: Callable[[bytes], pl.DataFrame]
    accepts: Callable[[bytes], bool] | None = None
    join: Callable[[Block, Indices], bytes] = Block.join


def chunk_of(
    source: Source,
    block: Block,
    first: int,
    faults: Mapping[str, Indices],
    parser: Parser,
    traits: Callable[[Indices], Traits],
) -> Chunk:
    """Parse a block whose first record is row `first`; `traits` says what holds of some of its records.

    `faults` are records that are not parsed, by reason; the first reason that a record has is told.
    """
    reasons: dict[str, Indices] = {}
    suspects = np.zeros(0, dtype=np.int64)
    for reason, found in faults.items():
        reasons[reason] = np.setdiff1d(found, suspects)
        suspects = np.union1d(suspects, found)
    indices = np.arange(len(block))
    if suspects.size:
        indices = np.delete(indices, suspects)
    seen = traits(indices)
    frame, kept = _attempt(parser.join(block, indices), indices, parser), indices
    if frame is None:
        frame, kept = _parse(block, indices, parser)
    if kept.size < indices.size:  # what is left could not be parsed
        unparsed = np.setdiff1d(indices, kept)
        reasons["malformed_row"] = np.union1d(reasons.get("malformed_row", unparsed), unparsed)

    def raw(row: int) -> str:
        return block.text(row - first)

    data = np.frombuffer(block.data, dtype=np.uint8)
    context = f"{source.kind}:{source.name}:{parser.layout}"
    rows = frame.select(
        pl.Series("row", kept + first, dtype=pl.UInt32),
        *hash_spans(data, block.starts[kept], block.stops[kept], context).columns(),
        *(pl.col(column).alias(name) for name, column in source.columns.items()),
    )
    parts = [refused_rows(found + first, reason, raw) for reason, found in reasons.items() if found.size]
    refused = pl.concat([pl.DataFrame(schema=REFUSED_SCHEMA), *parts])
    return Chunk(len(block), rows, refused, seen.tidy, seen.plain, raw, extent_of(block, first))


def refused_rows(rows: Indices, reason: str, raw: Callable[[int], str]) -> pl.DataFrame:
    """REFUSED_SCHEMA for whole rows that one reason refuses."""
    texts = [raw(row) for row in rows.tolist()]
    unknown = [None] * rows.size
    columns = {
        "row": rows, "field": unknown, "reason": [reason] * rows.size, "raw": texts, "source_id": unknown,
    }  # fmt: skip
    return pl.DataFrame(columns, schema=REFUSED_SCHEMA)


def missing_column(path: Path, name: str, column: str, known: list[str]) -> IngestError:
    """What to say of a mapped column that a file does not have."""
    return IngestError(f'{path}: no column "{column}" (for {name}){nearest(column, known)}')


def _parse(block: Block, indices: Indices, parser: Parser) -> tuple[pl.DataFrame, Indices]:
    """Parse the records at `indices`; those that cannot be parsed are left out of the second result."""
    if parser.accepts is not None:
        indices = np.array([i for i in indices.tolist() if parser.accepts(block.record(i))], dtype=np.int64)
    frame = _attempt(parser.join(block, indices), indices, parser)
    if frame is not None:
        return frame, indices
    if indices.size == 1:
        return pl.DataFrame(schema=dict.fromkeys(parser.columns, pl.String)), indices[:0]
    halves = [_parse(block, half, parser) for half in np.array_split(indices, 2)]
    return pl.concat([half for half, _ in halves]), np.concatenate([kept for _, kept in halves])


def _attempt(text: bytes, indices: Indices, parser: Parser) -> pl.DataFrame | None:
    if not indices.size:
        return pl.DataFrame(schema=dict.fromkeys(parser.columns, pl.String))
    try:
        frame = parser.parse(text)
    except (pl.exceptions.PolarsError, OSError):
        return None
    return frame if frame.height == indices.size else None
