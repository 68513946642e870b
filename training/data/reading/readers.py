"""Reads raw files to text columns, block by block; unreadable rows are reported by number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shopsight.training.data.errors import IngestError
from shopsight.training.data.reading.chunks import REFUSED_SCHEMA, Chunk
from shopsight.training.data.reading.csv_reader import csv_header, read_csv
from shopsight.training.data.reading.jsonl_reader import jsonl_header, read_jsonl
from shopsight.training.data.reading.parquet_reader import parquet_header, read_parquet
from shopsight.training.data.reading.workbook import read_workbook, workbook_header
from shopsight.training.data.sources.source import Source

__all__ = ["REFUSED_SCHEMA", "Chunk", "data_files", "files_of", "format_of", "header_of", "read_chunks"]

_SUFFIXES = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    ".parquet": "parquet", ".pq": "parquet", ".xlsx": "xlsx", ".xlsm": "xlsx", ".xls": "xlsx",
    ".xlsb": "xlsx", ".ods": "xlsx",
}  # fmt: skip


def files_of(source: Source) -> list[Path]:
    """The files that a source's path names (file, folder or glob), in order; raises IngestError for none."""
    path = source.base / source.path
    if path.is_dir():
        found = data_files(path)
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


def data_files(folder: Path) -> list[Path]:
    """The files of a folder and those below it whose suffix tells a format, in order."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and _suffix(p) in _SUFFIXES and _is_data(p))


def format_of(source: Source, path: Path) -> str:
    """The format of a file: as the source says, else by suffix."""
    if source.format is not None:
        return source.format
    if (known := _SUFFIXES.get(_suffix(path))) is None:
        raise IngestError(
            f'{path}: the suffix tells no format; say format = "csv", "jsonl", "parquet" or "xlsx"'
        )
    return known


def header_of(source: Source, path: Path) -> list[str]:
    """The names of a file's columns; of JSON, the keys of its first objects and the paths into them."""
    kind = format_of(source, path)
    if kind == "parquet":
        return parquet_header(path)
    if kind == "csv":
        return csv_header(source, path)
    if kind == "xlsx":
        return workbook_header(source, path)
    return jsonl_header(source, path)


def read_chunks(source: Source, path: Path) -> Iterator[Chunk]:
    """Read one file chunk by chunk, every field as text; raises IngestError for what is no such file."""
    kind = format_of(source, path)
    if kind == "parquet":
        yield from read_parquet(source, path)
    elif kind == "xlsx":
        yield from read_workbook(source, path)
    else:
        yield from (read_jsonl if kind == "jsonl" else read_csv)(source, path)


def _is_data(path: Path) -> bool:
    """Not a hidden file, and not the lock that Excel leaves beside an open workbook."""
    return not path.name.startswith((".", "~$"))


def _suffix(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix
