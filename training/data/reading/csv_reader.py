"""CSV: a header, a separator and quotes that are recognised, records that may hold line ends."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from shopsight.training.data.reading import quoting
from shopsight.training.data.reading.chunks import Chunk, Indices, Parser, chunk_of
from shopsight.training.data.reading.csv_layout import Layout, layout_of
from shopsight.training.data.reading.non_data_lines import find_non_data_lines
from shopsight.training.data.reading.records import Block, RawText, read_blocks
from shopsight.training.data.reading.scanning import Look, invalid_utf8, look
from shopsight.training.data.sources.source import Source


def read_csv(source: Source, path: Path) -> Iterator[Chunk]:
    """Read a CSV file; raises IngestError for a mapped column that its header does not have."""
    yield from read_csv_text(source, RawText(path, source.encoding))


def read_csv_text(source: Source, raw: RawText) -> Iterator[Chunk]:
    """Read CSV from a file or from memory; raises as `read_csv` does."""
    layout = layout_of(source, raw)
    wanted = {column: layout.names.index(column) for column in source.columns.values()}
    order = sorted(wanted, key=lambda column: wanted[column])

    def parse(text: bytes) -> pl.DataFrame:
        return pl.read_csv(
            io.BytesIO(text),
            has_header=False,
            schema={f"{i}": pl.String for i in range(len(layout.names))},
            columns=[wanted[column] for column in order],
            separator=layout.separator,
            new_columns=order,
            quote_char=None if layout.splitter.quoting == "none" else '"',
        )

    def join(block: Block, chosen: Indices) -> bytes:
        if not block.forms.size or block.forms[chosen].max(initial=0) <= quoting.QUOTED:
            return block.join(chosen)
        starts, stops, forms = block.starts[chosen], block.stops[chosen], block.forms[chosen]
        return quoting.rewritten(block.data, starts, stops, forms, ord(layout.separator))

    first, notes = 1, layout.notes
    parser = Parser(order, layout.separator.join(layout.names), parse, join=join)
    for block in read_blocks(raw, layout.splitter.split, skip=layout.line + 1):
        seen = look(block, layout.separator)
        chunk = chunk_of(source, block, first, _faults(block, seen, layout), parser, seen.traits)
        yield replace(chunk, notes=notes)
        first, notes = first + len(block), ()


def csv_header(source: Source, path: Path) -> list[str]:
    """The names of the columns; one that occurs more than once has its number: name (1), name (2)."""
    return layout_of(source, RawText(path, source.encoding)).names


def _faults(block: Block, seen: Look, layout: Layout) -> dict[str, Indices]:
    repeated, totals = find_non_data_lines(block, layout.raw, layout.separator)
    plain = block.forms == quoting.PLAIN
    wrong = (block.forms == quoting.WRONG) | (plain & (seen.fields != len(layout.names)))
    return {
        "repeated_header": repeated,
        "total_row": totals,
        "broken_utf8": invalid_utf8(block, seen.high()),
        "unclosed_quote": np.flatnonzero(block.forms == quoting.UNCLOSED),
        "stray_quote": np.flatnonzero(block.forms == quoting.STRAY),
        "malformed_row": np.flatnonzero(wrong),
    }
