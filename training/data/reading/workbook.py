"""Excel and OpenDocument workbooks: one sheet as CSV, so that the same rules find its header and clean it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from shopsight.training.data.errors import IngestError
from shopsight.training.data.reading.chunks import Chunk
from shopsight.training.data.reading.csv_layout import layout_of
from shopsight.training.data.reading.csv_reader import read_csv_text
from shopsight.training.data.reading.records import RawText, empty
from shopsight.training.data.sources.faults import nearest
from shopsight.training.data.sources.source import Source


def read_workbook(source: Source, path: Path) -> list[Chunk]:
    """Read one sheet: the one that the source names, or the only one that has the mapped columns.

    Rows without any value are left out. Raises IngestError for a workbook that cannot be read, a sheet that
    it does not have, and more than one sheet that could be meant.
    """
    name, raw, others = _sheet(source, path)
    chunks = list(read_csv_text(_as_csv(source), raw))
    if others and chunks:
        chunks[0] = replace(chunks[0], notes=(f'sheet "{name}" of {others + 1} is read', *chunks[0].notes))
    return chunks


def workbook_header(source: Source, path: Path) -> list[str]:
    """The names of the columns of the sheet that would be read; without a mapping the first filled one."""
    return layout_of(_as_csv(source), _sheet(source, path)[1]).names


def _as_csv(source: Source) -> Source:
    return replace(source, separator=",", quoting="doubled", encoding="utf-8")


def _sheet(source: Source, path: Path) -> tuple[str, RawText, int]:
    """The name of the sheet to read, its text, and how many others have content."""
    book = _open(path)
    if source.sheet is not None:
        if source.sheet not in book.sheet_names:
            raise IngestError(f'{path}: no sheet "{source.sheet}"{nearest(source.sheet, book.sheet_names)}')
        return source.sheet, RawText(path, content=_text(path, book, source.sheet)), 0
    texts = {name: _text(path, book, name) for name in book.sheet_names}
    filled = {name: RawText(path, content=text) for name, text in texts.items() if text.strip()}
    if not filled:
        raise empty(path)
    fits = [name for name, raw in filled.items() if len(filled) == 1 or _has_columns(source, raw)]
    if len(fits) == 1 or (fits and not source.columns):
        return fits[0], filled[fits[0]], len(filled) - 1
    raise IngestError(
        f"{path}: has {len(filled)} sheets, and {len(fits) or 'none'} of them with the mapped columns; "
        f'say sheet = "…", one of {", ".join(filled)}'
    )


def _has_columns(source: Source, raw: RawText) -> bool:
    try:
        layout_of(_as_csv(source), raw)
    except IngestError:
        return False
    return True


def _open(path: Path) -> Any:
    try:
        import fastexcel
    except ImportError as error:
        raise IngestError(
            f"{path}: workbooks are read with fastexcel, which is not installed: pip install "
            '"shopsight[excel]", or export the sheet as CSV'
        ) from error
    try:
        return fastexcel.read_excel(path)
    except Exception as error:  # its error types are its own
        raise IngestError(f"{path}: is not a readable workbook ({_short(error)}); export it again") from error


def _text(path: Path, book: Any, name: str) -> bytes:
    """A sheet as CSV, a line a row."""
    try:
        sheet = book.load_sheet(name, header_row=None, skip_rows=0, dtypes="string")
        frame = pl.DataFrame(sheet.to_polars())
    except Exception as error:  # as above; an empty sheet is one of them
        if "no data" in str(error).lower() or "empty" in str(error).lower():
            return b""
        raise IngestError(f'{path}: sheet "{name}" cannot be read ({_short(error)})') from error
    if not frame.width:
        return b""
    frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    return frame.write_csv(include_header=False).encode()


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
