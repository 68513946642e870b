"""JSON Lines and JSON documents: one object a row, or one element of a list inside each object a row."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from shopsight.training.data.digests import hash_spans
from shopsight.training.data.errors import IngestError
from shopsight.training.data.reading.chunks import (
    REFUSED_SCHEMA,
    Chunk,
    Indices,
    Parser,
    chunk_of,
    missing_column,
    refused_rows,
)
from shopsight.training.data.reading.extent import extent_of
from shopsight.training.data.reading.json_documents import json_text
from shopsight.training.data.reading.json_paths import Extractor, parse_column, paths_of
from shopsight.training.data.reading.records import Block, RawText, empty, read_blocks
from shopsight.training.data.reading.scanning import Traits, invalid_utf8, not_objects
from shopsight.training.data.sources.source import Source

_HEADER_RECORDS = 100


def read_jsonl(source: Source, path: Path) -> Iterator[Chunk]:
    """Read JSON; raises IngestError for a damaged document, and for a mapped key that no object has."""
    raw = json_text(source, path)
    keys = _top_keys(raw)
    if all(column in keys for column in source.columns.values()):
        yield from _read_flat(source, raw)
    else:
        yield from _read_nested(source, raw, keys)


def jsonl_header(source: Source, path: Path) -> list[str]:
    """The keys of the first objects, then the paths to what lies deeper in them."""
    found = [key for value in _first_objects(json_text(source, path)) for key in paths_of(value)]
    if not found:
        raise IngestError(f"{path}: none of its first lines is a JSON object; write one object a line")
    return list(dict.fromkeys(found))


def _first_objects(raw: RawText) -> list[dict[str, object]]:
    block = next((block for block in read_blocks(raw, piece_bytes=1 << 20) if len(block)), None)
    if block is None:
        raise empty(raw.path)
    records = (block.record(i) for i in range(min(len(block), _HEADER_RECORDS)))
    return [json.loads(record) for record in records if _is_object(record)]


def _top_keys(raw: RawText) -> list[str]:
    return list(dict.fromkeys(itertools.chain.from_iterable(_first_objects(raw))))


def _read_flat(source: Source, raw: RawText) -> Iterator[Chunk]:
    columns = list(dict.fromkeys(source.columns.values()))

    def parse(text: bytes) -> pl.DataFrame:
        frame = pl.read_ndjson(io.BytesIO(text), schema=dict.fromkeys(columns, pl.String))
        return frame.select(columns)

    first = 1
    for block in read_blocks(raw):
        everything = np.arange(0 if block.data.isascii() else len(block))
        faults = {"broken_utf8": invalid_utf8(block, everything), "malformed_row": not_objects(block)}
        # A backslash may begin any character.
        traits = Traits(tidy=False, plain=b"\\" not in block.data)

        def of_all(_: Indices, traits: Traits = traits) -> Traits:
            return traits

        parser = Parser(columns, "", parse, _is_object)
        yield chunk_of(source, block, first, faults, parser, of_all)
        first += len(block)


def _read_nested(source: Source, raw: RawText, keys: list[str]) -> Iterator[Chunk]:
    fields = list(source.columns)
    try:
        columns = [parse_column(column, keys) for column in source.columns.values()]
        extractor = Extractor(columns)
    except IngestError as error:
        raise IngestError(f"{source.label}: {error}") from error
    first, chunk = 1, None
    for block in read_blocks(raw):
        if chunk is not None:
            yield chunk
        rows = _Rows(block, first)
        for index, value in _values(block, rows):
            rows.add(index, list(extractor.rows(value)))
        chunk = rows.chunk(source, fields, is_flat=extractor.list is None)
        first += chunk.num_read
    if chunk is None:
        return
    for column in extractor.missing():
        name = next(name for name, theirs in source.columns.items() if theirs == column)
        raise missing_column(raw.path, name, column, jsonl_header(source, raw.path))
    notes = tuple(f"no object has {column}" for column in extractor.never_found())
    yield replace(chunk, notes=notes)


def _values(block: Block, rows: _Rows) -> Iterator[tuple[int, dict[str, object]]]:
    broken = set(invalid_utf8(block, np.arange(0 if block.data.isascii() else len(block))).tolist())
    for index in range(len(block)):
        record = block.record(index)
        if index in broken or not _is_object(record):
            rows.refuse(index, "broken_utf8" if index in broken else "malformed_row")
        else:
            yield index, json.loads(record)


class _Rows:
    """Rows of one block, numbered from `first` in the order of records and elements."""

    def __init__(self, block: Block, first: int) -> None:
        self._block, self._first = block, first
        self._owners: list[int] = []  # of each row its record
        self._nth: list[int] = []  # which element of the record it is
        self._texts: list[list[str | None]] = []
        self._refused: dict[str, list[int]] = {}

    def add(self, index: int, texts: list[list[str | None]]) -> None:
        """Take in the rows of one record."""
        self._owners += [index] * len(texts)
        self._nth += range(len(texts))
        self._texts += texts

    def refuse(self, index: int, reason: str) -> None:
        """A record that is one row and cannot be read."""
        self._refused.setdefault(reason, []).append(len(self._owners))
        self.add(index, [[]])

    def chunk(self, source: Source, fields: list[str], is_flat: bool) -> Chunk:
        """All rows as a chunk; records with several elements have a hash for each."""
        block, owners, first = self._block, np.array(self._owners, dtype=np.int64), self._first
        bad = np.array(sorted(itertools.chain.from_iterable(self._refused.values())), dtype=np.int64)
        good = np.setdiff1d(np.arange(owners.size), bad)
        data = np.frombuffer(block.data, dtype=np.uint8)
        theirs = owners[good]
        hashed = hash_spans(data, block.starts[theirs], block.stops[theirs], f"{source.kind}:{source.name}:")
        salt = np.array(self._nth, dtype=np.uint64)[good] * np.uint64(0x9E3779B97F4A7C15)
        texts = [self._texts[i] for i in good.tolist()]
        rows = pl.DataFrame(
            {
                "row": pl.Series(good + first, dtype=pl.UInt32),
                "hi": hashed.hi ^ salt,
                "lo": hashed.lo ^ (salt >> np.uint64(32)).astype(np.uint32),
                **{
                    name: pl.Series([text[i] for text in texts], dtype=pl.String)
                    for i, name in enumerate(fields)
                },
            }
        )

        def raw(row: int) -> str:
            return block.text(int(owners[row - first]))

        refused = [
            refused_rows(np.array(found, dtype=np.int64) + first, reason, raw)
            for reason, found in self._refused.items()
        ]
        extent = extent_of(block, first) if is_flat else None
        return Chunk(
            owners.size,
            rows,
            pl.concat([pl.DataFrame(schema=REFUSED_SCHEMA), *refused]),
            tidy=False,
            plain=False,
            raw=raw,
            extent=extent,
        )


def _is_object(record: bytes) -> bool:
    """Whether a line is one JSON object."""
    try:
        return isinstance(json.loads(record), dict)
    except (ValueError, RecursionError):
        return False
