"""Converts one JSON document to JSON Lines: an array, or an object that contains one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from shopsight.training.data.errors import IngestError
from shopsight.training.data.reading.records import RawText, pieces_of
from shopsight.training.data.sources.source import Source

# A document is in memory as a whole.
_MOST_BYTES = 2 << 30
_PEEK_BYTES = 1 << 16
# What an answer of a web service has beside its list.
_BESIDE = """
next_page previous_page next previous prev count total total_count page pages per_page page_size has_more
cursor after_cursor before_cursor after_url before_url end_time end_of_stream meta links paging pagination
object url success ok offset limit next_page_token generated_at exported_at
"""
_ENVELOPE = frozenset(_BESIDE.split())


def json_text(source: Source, path: Path) -> RawText:
    """The file as JSON Lines: itself, or the records of the one document that it is.

    `records` of the source names the list, as in "data.orders". Raises IngestError for a document that is
    damaged, too large, or without a list that is plainly the one meant.
    """
    raw = RawText(path, source.encoding)
    head, is_whole = next(pieces_of(raw, _PEEK_BYTES))
    if not _may_be_document(source, head, is_whole):
        return raw
    content = b""
    for piece, _ in pieces_of(raw, 1 << 24):
        content += piece
        if len(content) > _MOST_BYTES:
            raise IngestError(f"{path}: is one JSON document of more than 2 GB; write one object a line")
    try:
        document = json.loads(content.decode("utf-8", errors="surrogateescape"))
    except (ValueError, RecursionError) as error:
        if head.lstrip().startswith(b"{") and source.records is None:
            return raw  # lines, of which the first is damaged
        raise IngestError(f"{path}: is one JSON document and damaged ({error}); export it again") from error
    records = _records(source, path, document)
    lines = (json.dumps(record, ensure_ascii=False) for record in records)
    text = "\n".join(lines) + "\n" * bool(records)
    return RawText(path, content=text.encode("utf-8", errors="surrogateescape"))


def _may_be_document(source: Source, head: bytes, is_whole: bool) -> bool:
    """A list, an object over several lines, or one line that is the whole file."""
    begin = head.lstrip()
    if source.records is not None or begin.startswith(b"["):
        return True
    following = [line for line in begin.split(b"\n")[1:] if line.strip()]
    if not begin.startswith(b"{") or not (following or is_whole):
        return False
    return not following or not following[0].lstrip().startswith(b"{")


def _records(source: Source, path: Path, document: Any) -> list[Any]:
    """The records of a document: its list, or itself."""
    if source.records is not None:
        for name in source.records.split("."):
            document = document.get(name) if isinstance(document, dict) else None
        if not isinstance(document, list):
            raise IngestError(f'{path}: has no list "{source.records}" (records of the sources file)')
        return document
    if isinstance(document, list):
        return document
    lists = [name for name, value in document.items() if _is_table(value)]
    others = {name.lower() for name in document} - {name.lower() for name in lists}
    roots = {re.split(r"[.\[|]", column)[0].strip() for column in source.columns.values()}
    if len(lists) == 1 and others <= _ENVELOPE and not (roots and roots <= set(document)):
        return list(document[lists[0]])
    return [document]


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)
