"""The sources file: what is wrong in it is said once, with where and the remedy."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from shopsight.training.cli.main import app
from shopsight.training.data import tables
from shopsight.training.data.errors import IngestError
from shopsight.training.data.identity.config import load_identity_config
from shopsight.training.data.quarantine import REASONS
from shopsight.training.data.sources.keys import (
    PURPOSES,
    CurrencyTable,
    GoodsTable,
    IdentityTable,
    Kind,
    LookupTable,
    SourcesFile,
    SourceTable,
)
from shopsight.training.data.sources.kinds import FIELDS, KINDS, MEANINGS, REQUIRED
from shopsight.training.data.sources.load import consent_defaults, load_currencies, load_goods, load_sources
from shopsight.training.data.sources.reference import PAGE_FILE, SCHEMA_FILE, page, schema, schema_text
from shopsight.training.data.sources.source import Source

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
    "quoting": (
        GOOD.replace('path = "web.csv"', 'path = "w"\nquoting = "double"'),
        '"double" .*mean "doubled"',
    ),
    "a flag": (
        GOOD.replace('path = "web.csv"', 'path = "w"\nderived = "yes"'),
        "derived is 'yes', expected true",
    ),
    "a list": (
        GOOD.replace('path = "web.csv"', 'path = "w"\nrequired = "a"'),
        "required is 'a', expected a list",
    ),
    "a line": (GOOD.replace('path = "web.csv"', 'path = "w"\nheader_line = true'), "expected a whole number"),
    "a column": (
        GOOD + "price = 3\n",
        r'source 1 \("web"\): columns.price is 3, expected a text or a list of texts',
    ),
    "no column": (GOOD + "price = []\n", r"columns.price is \[\], expected a text or a list of texts"),
    "columns": (
        GOOD.replace("[source.columns]", "columns = 3\n[source.values]"),
        "columns is 3, expected a table",
    ),
    "a value": (GOOD + "[source.values.event]\nx = 1\n", "values.event.x is 1, expected a text"),
    "a scale": (GOOD + '[source.scale]\nprice = "x"\n', "scale.price is 'x', expected a number"),
    "a constant": (GOOD + "[source.constants]\nprice = true\n", "constants.price is True, expected a text"),
    "a lookup": (
        GOOD + '[[source.lookup]]\npath = "b.csv"\non = "item_id"\n[source.lookup.columns]\nprice = "p"\n',
        r'source 1 \("web"\): lookup 1: key is missing; it is needed, as are path, on, columns',
    ),
    "a table": ("format_version = 1\nsource = 3\n", "source is 3, expected a list"),
    "a status": (
        GOOD + 'status = "s"\n[source.values.status]\npaid = "sal"\n',
        'values.status."paid" is "sal" .did you mean "sale"',
    ),
}
TABLES = {
    "[currency]\nman = 'EUR'": 'currency: unknown key "man" .did you mean "main"',
    "[currency]\nrates = { USD = 0.9 }": "currency.main is None, expected the currency",
    "[currency]\nmain = 'EUR'\nrates = { USD = -1 }": "currency.rates.USD is -1, expected greater than 0",
    "[currency]\nmain = 'EUR'\nrates = { USD = 'x' }": "currency.rates.USD is 'x', expected a number",
    "[goods]\nnot_goods = 3": "goods.not_goods is 3, expected a list",
    "[goods]\nnot_goods = ['']": "goods.not_goods is '', expected a text that is not empty",
    "[identity]\nmethod = 'key'": 'identity.method is "key" .did you mean "keys"',
    "[identity]\nmin_precision = 2.0": "identity.min_precision is 2.0, expected a number between 0 and 1",
    "[consent_default]\nmarketting = true": 'unknown purpose "marketting" .*mean "marketing"',
    "[consent_default]\nmarketing = 'no'": "consent_default.marketing is 'no', expected true or false",
    "curency = 3": 'unknown key "curency" .did you mean "currency"',
}


@pytest.mark.parametrize("text", TABLES)
def test_a_fault_of_another_table_is_named(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, f"format_version = 1\n{text}\n")
    with pytest.raises(IngestError, match=TABLES[text]):
        for load in (load_currencies, load_goods, consent_defaults, load_identity_config):
            load(path)


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


PAGE = Path(__file__).parents[3] / "docs" / PAGE_FILE


def test_the_reference_page_is_what_the_model_says() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "run python -m shopsight.training.data.sources.reference docs"
    for kind, fields in FIELDS.items():
        (row,) = re.findall(rf"^\| `{kind}` \| .*? \| (.*) \|$", text, re.M)
        bold = {name.strip("*`") for name in row.split(", ") if name.startswith("**")}
        assert [name.strip("*`") for name in row.split(", ")] == list(fields) and bold == set(REQUIRED[kind])
    assert all(f"| `{name}` |" in text for name in (*SourceTable.model_fields, *MEANINGS, *REASONS))


def test_every_key_is_described_and_every_field_explained() -> None:
    for table in (SourcesFile, SourceTable, LookupTable, CurrencyTable, GoodsTable, IdentityTable):
        assert table.__doc__ and all(field.description for field in table.model_fields.values()), table
    assert set(MEANINGS) == {name for fields in FIELDS.values() for name in fields}
    assert set(KINDS) == set(FIELDS) == set(REQUIRED) == set(get_args(Kind))
    assert PURPOSES == tables.PURPOSES


def test_the_schema_is_what_the_model_says_and_prints() -> None:
    assert PAGE.with_name(SCHEMA_FILE).read_text(encoding="utf-8") == schema_text()
    printed = CliRunner().invoke(app, ["validate", "--schema"])
    assert printed.exit_code == 0 and json.loads(printed.stdout) == schema()


def test_a_source_made_in_code_has_the_defaults_of_the_file() -> None:
    ours = {f.name: f for f in dataclasses.fields(Source)}
    assert set(ours) - {"base", "overlaid"} == set(SourceTable.model_fields)
    for name, field in SourceTable.model_fields.items():
        if field.is_required() or isinstance(field.default, list | dict):
            continue
        assert ours[name].default == field.default, name
