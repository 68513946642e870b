"""CSV: a header, a separator that is recognised, records whose quotes may hold line ends."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from training.data.chunks import Chunk, Faults, Parser, chunk_of, missing_column
from training.data.records import first_line, read_blocks
from training.data.scanning import invalid_utf8, look
from training.data.sources import IngestError, Source


def read_csv(source: Source, path: Path) -> Iterator[Chunk]:
    """Read a CSV file; raises IngestError for a mapped column that its header does not have."""
    header, separator = csv_header(source, path)
    for name, column in source.columns.items():
        if column not in header:
            raise missing_column(path, name, column, header)
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

    first, parser = 1, Parser(order, separator.join(header), parse)
    for block in read_blocks(path, source.encoding, separator, len(header), has_header=True):
        seen = look(block, separator)
        faults = Faults(invalid_utf8(block, seen.high()), np.flatnonzero(seen.fields != len(header)))
        yield chunk_of(source, block, first, faults, parser, seen.traits)
        first += len(block)


def csv_header(source: Source, path: Path) -> tuple[list[str], str]:
    """The names of the columns and the separator; raises IngestError for a header that has a name twice."""
    line = first_line(path, source.encoding)
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise IngestError(
            f'{path}: the header is not UTF-8; say encoding = "latin-1", or which it is'
        ) from error
    separator = source.separator or max(",;\t|", key=text.count)
    try:
        header = [name.strip() for name in next(csv.reader([text], delimiter=separator))]
    except csv.Error as error:
        raise IngestError(f"{path}: the header is no line of CSV ({error})") from error
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise IngestError(f'{path}: the header names column "{twice}" twice; rename one')
    return header, separator
