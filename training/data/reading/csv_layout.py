"""How one CSV file is laid out: where its header is, which separator and which quotes it has."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from shopsight.training.data.errors import IngestError
from shopsight.training.data.reading.chunks import missing_column
from shopsight.training.data.reading.quoting import Splitter, splitter
from shopsight.training.data.reading.records import RawText, empty, guess_encoding, head_of
from shopsight.training.data.sources.source import Source

_SEPARATORS = ",;\t|"
# Notes before a header are looked for in so many lines.
_MOST_NOTES = 60
_SAMPLE_LINES = 200
_MOST_HEADER_LINES = 8
# Lines with fewer fields than this share of the usual number are notes, not a header.
_LEAST_FIELDS = 0.75


@dataclass(frozen=True)
class Layout:
    """`line` (from 0) is where the header ends, `raw` its bytes; `notes` say what was found out."""

    line: int
    raw: bytes
    names: list[str]
    separator: str
    splitter: Splitter
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Header:
    """The header: its first and last line, of which a quoted name may make two."""

    line: int
    last: int
    separator: str
    names: list[str]


def layout_of(source: Source, raw: RawText) -> Layout:
    """Find the header of CSV.

    It is on the line that the source says, or the first line that has all mapped columns, or the first line
    with about as many fields as the lines after it. Raises IngestError for a file without one, and for a
    mapped column that the header does not have or has twice.
    """
    path, sample = raw.path, head_of(raw)
    lines = [line.rstrip(b"\r") for line in sample.split(b"\n")[:-1]]
    header = _header(source, path, lines)
    _check_columns(source, path, header)
    body = sample[sum(len(line) + 1 for line in sample.split(b"\n")[: header.last + 1]) :]
    found = splitter(body, header.separator, len(header.names), source.quoting)
    notes = []
    before = [line for line in lines[: header.line] if line.strip() and _announced(line) is None]
    if before and source.header_line is None:
        skipped = f"{len(before)} line{'s' * (len(before) > 1)} before it left out"
        notes.append(f"header found on line {header.line + 1}, {skipped}")
    if found.quoting != "doubled" and source.quoting is None:
        meaning = {"backslash": 'quotes inside fields are written \\"', "none": "quotes are read as text"}
        notes.append(f'{meaning[found.quoting]} (quoting = "{found.quoting}")')
    raw_header = b"\n".join(lines[header.line : header.last + 1])
    return Layout(header.last, raw_header, _distinct(header.names), header.separator, found, tuple(notes))


def _header(source: Source, path: Path, lines: list[bytes]) -> _Header:
    filled = [i for i, line in enumerate(lines[: _MOST_NOTES + _SAMPLE_LINES]) if line.strip()]
    separators = source.separator or _announced(lines[filled[0]]) or _SEPARATORS
    if _announced(lines[filled[0]]) is not None:
        filled = filled[1:]
    if source.header_line is not None:
        if not 0 < source.header_line <= len(lines):
            raise IngestError(f"{path}: header_line is {source.header_line}, the file has fewer lines")
        filled = [i for i in filled if i >= source.header_line - 1] or [source.header_line - 1]
    if not filled:
        raise empty(path)
    first = filled[0]
    if source.header_line is None:
        wanted = set(source.columns.values())
        for i in filled[:_MOST_NOTES] if wanted else ():
            for last in dict.fromkeys((i, _last_line(lines, i))):
                text = b"\n".join(lines[i : last + 1]).decode("utf-8", errors="replace")
                for separator in separators:
                    names = _names(text, separator)
                    if wanted <= {*names, *_distinct(names)}:
                        return _Header(i, last, separator, names)
        texts = {i: lines[i].decode("utf-8", errors="replace") for i in filled}
        best = max((_guess(texts, separator) for separator in separators), key=lambda guess: guess[0])
        first, separators = best[1], best[2]
    first, last = next(
        ((i, end) for i in filled if i <= first <= (end := _last_line(lines, i))), (first, first)
    )
    text = _decoded(path, b"\n".join(lines[first : last + 1]))
    separator = max(separators, key=lambda one: len(_names(text, one)))
    return _Header(first, last, separator, _names(text, separator))


def _last_line(lines: list[bytes], first: int) -> int:
    """The line on which the quotes that the first one opens are closed, if that is soon; else the first."""
    quotes = 0
    for i, line in enumerate(lines[first : first + _MOST_HEADER_LINES], start=first):
        quotes += line.count(b'"')
        if quotes % 2 == 0:
            return i
    return first


def _guess(texts: dict[int, str], separator: str) -> tuple[tuple[int, int], int, str]:
    """How well a separator explains the lines (lines with the usual number of fields, that number), and the
    line of the header it gives."""
    lines = {i: _names(text, separator) for i, text in texts.items()}
    several = Counter(len(names) for names in lines.values() if len(names) > 1)
    if not several:
        return (0, 1), min(texts), separator
    usual = max(several, key=lambda count: (several[count], count))
    # Spreadsheets give their notes empty fields too, so the filled ones count.
    filled = {i: sum(map(bool, names)) for i, names in lines.items()}
    most = Counter(filled[i] for i, names in lines.items() if len(names) == usual).most_common(1)[0][0]
    header = next((i for i, count in filled.items() if count >= max(2, _LEAST_FIELDS * most)), min(texts))
    if header > min(texts) + _MOST_NOTES:
        header = min(texts)
    return (several[usual], usual), header, separator


def _announced(line: bytes) -> str | None:
    """The separator that a first line such as sep=; names for Excel."""
    match = re.fullmatch(rb'\s*"?sep=(.|\\t)"?[,;\t\s]*', line, flags=re.IGNORECASE)
    if match is None:
        return None
    return {"\\t": "\t"}.get(match[1].decode("latin-1"), match[1].decode("latin-1"))


def _names(text: str, separator: str) -> list[str]:
    try:
        names = next(csv.reader(io.StringIO(text), delimiter=separator), [])
        return [re.sub(r"\s*\n\s*", " ", name.strip()) for name in names]
    except csv.Error:
        return [name.strip() for name in text.split(separator)]


def _decoded(path: Path, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        seems = guess_encoding(path) or "latin-1"
        raise IngestError(
            f'{path}: the header is not UTF-8; it looks like {seems}: say encoding = "{seems}" or another'
        ) from error


def _distinct(names: list[str]) -> list[str]:
    """Names that occur more than once get a number: name (1), name (2)."""
    seen: Counter[str] = Counter()
    distinct = []
    for name in names:
        seen[name] += 1
        distinct.append(f"{name} ({seen[name]})" if names.count(name) > 1 else name)
    return distinct


def _check_columns(source: Source, path: Path, header: _Header) -> None:
    names = _distinct(header.names)
    for name, column in source.columns.items():
        if column in names:
            continue
        if (count := header.names.count(column)) > 1:
            ways = " or ".join(f'"{column} ({i + 1})"' for i in range(count))
            raise IngestError(
                f'{path}: the header names column "{column}" {count} times (for {name}); say which: {ways}'
            )
        where = f" of line {header.line + 1}" if header.line else ""
        hint = f"; the header is taken to be line {header.line + 1}, header_line says where it is"
        error = missing_column(path, name, column, names)
        raise IngestError(f"{error}{hint if where else ''}")
