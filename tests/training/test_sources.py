"""The sources file: what is wrong in it is said once, with where and the remedy."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from training.data.identity_config import KEYS
from training.data.quarantine import REASONS
from training.data.sources import FIELDS, REQUIRED, IngestError, Source, load_sources

GOOD = """format_version = 1
[[source]]
name = "web"
kind = "events"
path = "web.csv"
[source.columns]
source_id = "visitor"
event = "action"
timestamp = "at"
item_id = "sku"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "sources.toml"
    path.write_text(text)
    return path


def test_a_source_carries_its_mapping(tmp_path: Path) -> None:
    text = (
        GOOD
        + '[source.values.event]\npageview = "view"\n[source.constants]\ncurrency = "EUR"\nquantity = 1\n'
    )
    (source,) = load_sources(write(tmp_path, text))
    assert source.base == tmp_path and source.columns["source_id"] == "visitor"
    assert source.values == {"event": {"pageview": "view"}}
    assert source.constants == {"currency": "EUR", "quantity": "1"}
    assert source.timezone == "UTC"


FAULTS = {
    "not TOML": (GOOD + "oops", "not valid TOML"),
    "no version": (GOOD.replace("format_version = 1", ""), "format_version is None, this release reads 1"),
    "nothing": ("format_version = 1\n", r"add at least one \[\[source\]\]"),
    "unknown key": (
        GOOD.replace("path", "pth"),
        r'source 1 \("web"\): unknown key "pth" \(did you mean "path"',
    ),
    "no kind": (GOOD.replace('kind = "events"\n', ""), "kind is missing"),
    "unknown kind": (GOOD.replace('"events"', '"event"'), 'kind is "event" .did you mean "events"'),
    "unknown field": (GOOD + 'qantity = "n"\n', 'unknown field of events "qantity" .did you mean "quantity"'),
    "required field": (GOOD.replace('timestamp = "at"\n', ""), "no column for timestamp, which events need"),
    "no ids": (GOOD.replace('source_id = "visitor"\n', ""), "channel without ids.*anonymous = true"),
    "wrong type": (
        GOOD.replace('path = "web.csv"', 'path = "web.csv"\ntimezone = 3'),
        "timezone is 3, expected a text",
    ),
    "time zone": (
        GOOD.replace('path = "web.csv"', 'path = "w"\ntimezone = "Europe/Berlni"'),
        'mean "Europe/Berlin"',
    ),
    "encoding": (
        GOOD.replace('path = "web.csv"', 'path = "w"\nencoding = "utf-9"'),
        'encoding "utf-9" is unknown',
    ),
    "separator": (GOOD.replace('path = "web.csv"', 'path = "w"\nseparator = "||"'), "one ASCII character"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_remedy(tmp_path: Path, name: str) -> None:
    text, message = FAULTS[name]
    with pytest.raises(IngestError, match=message) as raised:
        load_sources(write(tmp_path, text))
    assert "sources.toml" in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="no such sources file"):
        load_sources(tmp_path / "none.toml")


def test_anonymous_sources_need_no_ids(tmp_path: Path) -> None:
    text = GOOD.replace('source_id = "visitor"\n', "").replace(
        'path = "web.csv"', 'path = "w"\nanonymous = true'
    )
    assert load_sources(write(tmp_path, text))[0].anonymous


def test_the_reference_page_names_every_key_kind_and_field() -> None:
    page = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()
    keys = {
        name
        for row in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", page, re.M)
        for name in re.findall(r"\w+", row)
    }
    of_sources = {f.name for f in dataclasses.fields(Source)} - {"base", "overlaid"}
    assert of_sources | set(KEYS) == keys - set(FIELDS) - set(REASONS)
    for kind, fields in FIELDS.items():
        (row,) = re.findall(rf"^\| `{kind}` \| (.*) \|$", page, re.M)
        told = [name.strip("*`") for name in row.split(", ")]
        bold = [name.strip("*`") for name in row.split(", ") if name.startswith("**")]
        assert told == list(fields) and set(bold) == set(REQUIRED[kind]), kind
    assert all(
        f"`{reason}`" in page for reason in ("skipped_hour", "no_sale", "unknown_status", "missing_currency")
    )
