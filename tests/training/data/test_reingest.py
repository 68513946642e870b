"""What changed since the last ingest is told, and a changed rule reaches the tables that there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data import ingest_inputs as module
from shopsight.training.data import loading
from shopsight.training.data.cleaning.conventions import Convention
from shopsight.training.data.ingest import IngestReport, ingest
from shopsight.training.data.tables import scan_table

KEY = PseudonymKey("test", b"k" * 32)
ROWS = "id,who,code,name,qty,price,at\n1,a,1001,Lamp,1,10,03/04/2025\n2,b,1002,Wrapping,1,4,05/06/2025\n"
SOURCES = """format_version = 1
{top}
[[source]]
name = "till"
kind = "orders"
path = "orders.csv"
{keys}
[source.columns]
source_id = "who"
order_id = "id"
item_id = "code"
quantity = "qty"
price = "price"
timestamp = "at"
"""


def read(folder: Path, top: str = "", keys: str = 'country = "GB"') -> IngestReport:
    (folder / "orders.csv").write_text(ROWS)
    (folder / "mine.toml").write_text(SOURCES.format(top=top, keys=keys))
    return ingest(folder / "mine.toml", Workspace(folder / "w"), KEY)


def months(folder: Path) -> list[int]:
    events = scan_table(Workspace(folder / "w").tables, "events").sort("order_id").collect()
    return events["timestamp"].dt.month().to_list()


@pytest.mark.parametrize(
    ("top", "keys", "said", "is_read"),
    [
        ('[goods]\nnot_goods = ["1002"]', 'country = "GB"', "[goods]", False),
        ('[currency]\nmain = "EUR"', 'country = "GB"', "[currency]", False),
        ('[identity]\nmethod = "keys"', 'country = "GB"', "[identity]", False),
        ("[consent_default]\nmarketing = false", 'country = "GB"', "[consent_default]", False),
        ("", 'country = "GB"\ntimezone = "Europe/Paris"', "the files or how they are read", True),
    ],
)
def test_a_change_of_the_sources_file_is_told(
    tmp_path: Path, top: str, keys: str, said: str, is_read: bool
) -> None:
    first = read(tmp_path)
    assert not any("made anew" in note for note in first.notes)
    assert read(tmp_path).unchanged
    again = read(tmp_path, top, keys)
    assert f"the tables are made anew, changed: {said}" in again.notes
    assert any("orders.csv is read again, changed: timezone" in note for note in again.notes) == is_read


def test_a_change_of_a_vocabulary_or_a_preset_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    monkeypatch.setattr(module, "__file__", str(code / "ingest.py"))
    read(tmp_path)
    (code / "fees.toml").write_text("[kinds]")
    again = read(tmp_path)
    assert not again.unchanged
    assert "the tables are made anew, changed: the rules of this release" in again.notes
    assert read(tmp_path).unchanged


def test_a_mended_preset_reaches_the_tables_that_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    monkeypatch.setattr(module, "__file__", str(code / "ingest.py"))
    monkeypatch.setattr(loading, "convention_of", lambda _: Convention(day_first=True))
    read(tmp_path, keys="")
    assert months(tmp_path) == [4, 6]
    monkeypatch.setattr(loading, "convention_of", lambda _: Convention(day_first=False))
    (code / "preset.toml").write_text("[[source]]")
    again = read(tmp_path, keys="")
    assert months(tmp_path) == [3, 5]
    assert any("orders.csv is read again, changed: day_first" in note for note in again.notes)


def test_a_changed_country_is_obeyed_and_what_values_decided_is_remembered(tmp_path: Path) -> None:
    read(tmp_path)
    assert months(tmp_path) == [4, 6]
    read(tmp_path, keys='country = "US"')
    assert months(tmp_path) == [3, 5]
