"""JSON as services export it: documents, values inside others, one row for each element of a list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopsight.training.data.errors import IngestError
from shopsight.training.data.reading.chunks import Chunk
from shopsight.training.data.reading.readers import header_of, read_chunks
from shopsight.training.data.sources.source import Source

TICKETS: list[dict[str, Any]] = [
    {"id": 301, "text": "Where is it?\n\nTess", "requester": {"email": "tess@mail.example"}, "tags": ["a"]},
    {"id": 302, "text": "Größe?", "requester": {"email": None}, "tags": []},
]
EVENTS: list[dict[str, Any]] = [
    {
        "name": "view", "user": None, "visitor": "v1", "at": 1749895200000000, "items": [],
        "params": [{"key": "page", "value": {"s": "/"}}, {"key": "sid", "value": {"int_value": "17"}}],
    },
    {
        "name": "purchase", "user": "u1", "visitor": "v1", "at": 1749895200000001,
        "items": [{"sku": "A", "price": 30.5}, {"sku": "B", "price": 20}, {"sku": "A", "price": 30.5}],
        "params": [{"key": "sid", "value": {"int_value": "17"}}],
    },
]  # fmt: skip


def chunks(folder: Path, content: str | bytes, columns: dict[str, str], **how: Any) -> list[Chunk]:
    path = folder / "f.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_chunks(Source("s", "messages", "f.json", folder, columns=columns, **how), path))


def rows(folder: Path, content: str | bytes, columns: dict[str, str], **how: Any) -> list[tuple[Any, ...]]:
    read = chunks(folder, content, columns, **how)
    assert all(chunk.refused.is_empty() for chunk in read)
    return pl.concat([chunk.rows for chunk in read]).drop("hi", "lo").rows()


NESTED = {"message_id": "id", "source_id": "requester.email", "text": "text"}
WANTED = [(1, "301", "tess@mail.example", TICKETS[0]["text"]), (2, "302", None, "Größe?")]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    "document", [TICKETS, {"tickets": TICKETS, "next_page": None, "count": 2}, {"Orders": TICKETS}]
)
def test_a_document_is_read_as_its_records(tmp_path: Path, document: Any, indent: int | None) -> None:
    text = json.dumps(document, indent=indent)
    assert rows(tmp_path, text, NESTED) == WANTED
    assert rows(tmp_path, text.encode("utf-8-sig"), NESTED) == WANTED
    assert rows(tmp_path, text, {"message_id": "id", "text": "text"}) == [(a, b, d) for a, b, _, d in WANTED]
    source = Source("s", "messages", "f.json", tmp_path)
    assert header_of(source, tmp_path / "f.json") == ["id", "text", "requester", "tags", "requester.email"]


def test_records_names_the_list_of_a_document_that_has_more_than_one(tmp_path: Path) -> None:
    text = json.dumps({"shop": "x", "data": {"tickets": TICKETS, "users": [{"id": 1}]}})
    assert rows(tmp_path, text, NESTED, records="data.tickets") == WANTED
    with pytest.raises(IngestError, match=r'f.json: has no list "data.ticket"'):
        rows(tmp_path, text, NESTED, records="data.ticket")


@pytest.mark.parametrize("cut", [10, 60])
def test_a_damaged_document_is_named(tmp_path: Path, cut: int) -> None:
    with pytest.raises(IngestError, match=r"f.json: is one JSON document and damaged"):
        chunks(tmp_path, json.dumps(TICKETS)[:-cut], NESTED)


def test_lines_stay_lines_although_one_has_a_list_or_is_damaged(tmp_path: Path) -> None:
    lines = [json.dumps(event) for event in EVENTS]
    assert rows(tmp_path, lines[1], {"text": "name"}) == [(1, "purchase")]
    (chunk,) = chunks(tmp_path, "\n".join([lines[0][:-9], lines[1], "[1]"]), {"text": "name"})
    assert chunk.rows["text"].to_list() == ["purchase"]
    assert chunk.refused.select("row", "reason").rows() == [(1, "malformed_row"), (3, "malformed_row")]


def test_one_row_for_each_element_of_a_list(tmp_path: Path) -> None:
    columns = {
        "message_id": "name", "item_id": "items[].sku", "text": "items[].price",
        "source_id": "user | visitor", "channel": "params[key=sid].value.int_value",
    }  # fmt: skip
    text = "\n".join(map(json.dumps, EVENTS)) + "\n{broken\n"
    (chunk,) = chunks(tmp_path, text, columns)
    assert chunk.rows.drop("hi", "lo").rows() == [
        (1, "view", None, None, "v1", "17"),
        (2, "purchase", "A", "30.5", "u1", "17"),
        (3, "purchase", "B", "20", "u1", "17"),
        (4, "purchase", "A", "30.5", "u1", "17"),
    ]
    assert chunk.num_read == 5 and chunk.refused.select("row", "reason").rows() == [(5, "malformed_row")]
    assert chunk.raw(3) == json.dumps(EVENTS[1]) and chunk.raw(5) == "{broken"
    # Two equal lines of one order are two records; the same object again is the same record.
    assert chunk.rows.select("hi", "lo").is_unique().all()
    assert (
        chunk.rows.select("hi", "lo").rows()
        == chunks(tmp_path, text, columns)[0].rows.select("hi", "lo").rows()
    )
    found = header_of(Source("s", "messages", "f.json", tmp_path), tmp_path / "f.json")
    assert set(columns.values()) - {"user | visitor"} <= set(found)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("itms[].sku", r'no column "itms\[\].sku" \(for text\) \(did you mean "items\[\].sku"\?\)'),
        ("usr | visitr.id", r'no column "usr \| visitr.id"'),
        ("items[.sku", r'column "items\[.sku" is no path'),
        ("items[].a[].b", "goes through two lists"),
    ],
)
def test_a_path_that_leads_nowhere_is_named(tmp_path: Path, column: str, says: str) -> None:
    with pytest.raises(IngestError, match=says):
        chunks(tmp_path, "\n".join(map(json.dumps, EVENTS)), {"text": column})


@pytest.mark.parametrize("column", ["items[].skuu", "params[key=sid].valu", "params[key=none].value", "at.x"])
def test_a_path_that_no_object_has_is_told(tmp_path: Path, column: str) -> None:
    (chunk,) = chunks(tmp_path, "\n".join(map(json.dumps, EVENTS)), {"text": column})
    assert chunk.rows["text"].null_count() == chunk.rows.height > 0
    assert chunk.notes == (f"no object has {column}",)


def test_elements_of_two_lists_are_no_rows(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"columns go through items\[\] and params\[\]"):
        chunks(tmp_path, json.dumps(EVENTS[1]), {"text": "items[].sku", "item_id": "params[].key"})


def test_a_key_with_a_point_is_that_key(tmp_path: Path) -> None:
    text = json.dumps({"user.id": "u1", "user": {"id": "u2", "mail": "m"}})
    columns = {"text": "user.id", "source_id": "user.mail"}
    assert rows(tmp_path, text, columns) == [(1, "u1", "m")]
