"""JSON Lines: one object a line; nested values stay JSON text."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from training.data.chunks import Chunk, Indices, Parser, chunk_of, missing_column
from training.data.records import first_line, read_blocks
from training.data.scanning import Traits, invalid_utf8, not_objects
from training.data.sources import IngestError, Source


def read_jsonl(source: Source, path: Path) -> Iterator[Chunk]:
    """Read JSON Lines; raises IngestError for an array, and for a mapped key that no object has."""
    head = first_line(path, source.encoding).lstrip()
    if head.startswith(b"["):
        raise IngestError(f"{path}: is a JSON array, not JSON Lines; write one object a line")
    columns = list(dict.fromkeys(source.columns.values()))
    seen: set[str] = set()

    def parse(text: bytes) -> pl.DataFrame:
        frame = pl.read_ndjson(io.BytesIO(text), schema=dict.fromkeys(columns, pl.String))
        return frame.select(columns)

    first = 1
    for block in read_blocks(path, source.encoding):
        for column in set(columns) - seen:
            spellings = (json.dumps(column, ensure_ascii=escaped).encode() for escaped in (True, False))
            if any(spelling in block.data for spelling in spellings):
                seen.add(column)
        everything = np.arange(0 if block.data.isascii() else len(block))
        faults = {"broken_utf8": invalid_utf8(block, everything), "malformed_row": not_objects(block)}
        # A backslash may begin any character.
        traits = Traits(tidy=False, plain=b"\\" not in block.data)

        def of_all(_: Indices, traits: Traits = traits) -> Traits:
            return traits

        parser = Parser(columns, "", parse, is_object)
        yield chunk_of(source, block, first, faults, parser, of_all)
        first += len(block)
    for name, column in source.columns.items():
        if column not in seen:
            raise missing_column(path, name, column, list(json.loads(head)) if is_object(head) else [])


def is_object(record: bytes) -> bool:
    """Whether a line is one JSON object."""
    try:
        return isinstance(json.loads(record), dict)
    except (ValueError, RecursionError):
        return False
