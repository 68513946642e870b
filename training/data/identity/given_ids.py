"""Reads raw ids from a file and normalises them as ingest does."""

from __future__ import annotations

import codecs
import json
import re
import sys
from pathlib import Path

import polars as pl

from shopsight.training.data.cleaning.rules import stripped

_EXCEL_TEXT = re.compile(r"""^(?:="(.*)"|'(.*?)'?)$""")  # how a spreadsheet keeps a number as text


class IdFileError(ValueError):
    """The file of ids cannot be used."""


def read_ids(file: str) -> dict[str, int]:
    """Read raw ids, one a line, each with the number of its first line; "-" reads standard input.

    Byte order marks, line ends of any system and blanks around an id are no part of it. A line in double
    quotes is a JSON string, for an id with a newline in it. Raises IdFileError naming the line.
    """
    lines: dict[str, int] = {}
    for number, line in enumerate(text_of(file).replace("\ufeff", "").split("\n"), start=1):
        text = line.strip()
        if not text:
            continue
        try:
            lines.setdefault(str(json.loads(text)) if text.startswith('"') else text, number)
        except ValueError:
            raise IdFileError(f"{file}, line {number}: begins as a JSON string but is none") from None
    if not lines:
        raise IdFileError(f"{file}: holds no id; write one a line")
    return lines


def forms_of(source_id: str) -> list[str]:
    """Return the forms under which ingest may know an id: trimmed, and without a spreadsheet's marks."""
    found = [source_id]
    if match := _EXCEL_TEXT.match(source_id.replace("\ufeff", "").strip()):
        found.append(match.group(1) or match.group(2) or "")
    column = pl.DataFrame({"id": [text.replace("\ufeff", "") for text in found]}).select(stripped("id"))
    return column["id"].drop_nulls().unique(maintain_order=True).to_list()


def text_of(file: str) -> str:
    """Return what a file, or standard input for "-", holds as text; raises IdFileError."""
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return raw.decode("utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise IdFileError(f"{file}: cannot be read ({error}); give a UTF-8 file of ids, one a line") from None
