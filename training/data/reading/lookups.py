"""Looks up fields in another file, such as the buyer of an order line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from shopsight.training.data.fields import plain_ids
from shopsight.training.data.reading.chunks import Chunk
from shopsight.training.data.reading.readers import files_of, read_chunks
from shopsight.training.data.sources.source import Lookup, Source


def with_lookups(source: Source, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Give the rows of a source's own columns the fields that its lookups find by a key, null for no match.

    A key that is in a lookup's file more than once gives what its first row says.
    """
    if not source.lookup:
        yield from chunks
        return
    frames = [(lookup, _frame(source, lookup)) for lookup in source.lookup]
    for chunk in chunks:
        rows = chunk.rows
        for lookup, frame in frames:
            keyed = rows.with_columns(plain_ids(lookup.on).alias("\nkey"))
            rows = keyed.drop(set(lookup.columns) & set(rows.columns)).join(
                frame, on="\nkey", how="left", maintain_order="left"
            )
            rows = rows.drop("\nkey")
        yield replace(chunk, rows=rows, tidy=False, plain=False)


def _frame(source: Source, lookup: Lookup) -> pl.DataFrame:
    probe = _source_of(source, lookup)
    parts = [chunk.rows for path in files_of(probe) for chunk in read_chunks(probe, path)]
    rows = pl.concat(parts).with_columns(plain_ids("\nkey")).filter(pl.col("\nkey").is_not_null())
    return rows.drop("row", "hi", "lo").unique("\nkey", keep="first", maintain_order=True)


def lookup_files(source: Source) -> list[Source]:
    """A source for the files of each lookup of a source."""
    return [_source_of(source, lookup) for lookup in source.lookup]


def _source_of(source: Source, lookup: Lookup) -> Source:
    columns = {"\nkey": lookup.key, **lookup.columns}
    return Source(
        source.name, source.kind, lookup.path, source.base, encoding=lookup.encoding, columns=columns
    )
