"""Privacy of ingest: raw identifiers stay out of tables and messages; quarantine is the owner's alone."""

from __future__ import annotations

import stat
from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.ingest import ingest

KEY = PseudonymKey("test", b"k" * 32)
FIXTURE = Path(__file__).parents[1] / "fixtures" / "messy_shop"


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, list[str]]:
    lines: list[str] = []
    workspace = Workspace(tmp_path_factory.mktemp("privacy"))
    ingest(FIXTURE / "sources.toml", workspace, KEY, progress=lines.append)
    return workspace, lines


def test_quarantine_is_readable_by_its_owner_alone(ingested: tuple[Workspace, list[str]]) -> None:
    folder = ingested[0].quarantine
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files and all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)


def test_rows_of_the_tables_are_readable_by_their_owner_alone(ingested: tuple[Workspace, list[str]]) -> None:
    parts = list(ingested[0].tables.glob("*/*.parquet"))
    assert len(parts) > 5
    for path in {*parts, *(path.parent for path in parts), ingested[0].tables}:
        assert path.stat().st_mode & 0o077 == 0, path


def test_no_identifier_of_a_person_is_in_any_table(ingested: tuple[Workspace, list[str]]) -> None:
    accounts = pl.read_csv(FIXTURE / "accounts.csv", infer_schema=False, truncate_ragged_lines=True)
    cards = [
        line.split('"card": "')[1][:5] for line in (FIXTURE / "cards.jsonl").read_text().splitlines()[:-1]
    ]
    mails = accounts["mail"].drop_nulls().str.to_lowercase().to_list()
    phones = [phone[-7:] for phone in accounts["phone"].drop_nulls()]
    ids = {*accounts["account"].drop_nulls(), *cards}
    for path in ingested[0].tables.rglob("*.parquet"):
        frame = pl.read_parquet(path)
        for column in frame.select(pl.col(pl.String)).iter_columns():
            assert not ids.intersection(column.drop_nulls()), (path.parent.name, column.name)
            text = "\n".join(column.drop_nulls()).lower()
            assert not any(mail in text for mail in mails), (path.parent.name, column.name)
            assert not any(phone in text for phone in phones), (path.parent.name, column.name)


def test_progress_names_files_and_counts_only(ingested: tuple[Workspace, list[str]]) -> None:
    said = "\n".join(ingested[1])
    assert "orders.csv" in said
    assert "@" not in said and "w1," not in said


def test_hostile_ids_are_data_and_nothing_else(tmp_path: Path) -> None:
    hostile = [
        "../../etc/passwd",
        "'; DROP TABLE x; --",
        "=cmd()",
        "a\u202eb",
        "x" * 65_536,
        "名字/..",
        "%s%n",
    ]
    rows = "".join(
        f'"{who.replace(chr(34), chr(34) * 2)}",o{i},i1,1,1,2024-01-01 10:00\n'
        for i, who in enumerate(hostile)
    )
    (tmp_path / "o.csv").write_text("who,order,item,qty,price,at\n" + rows)
    (tmp_path / "sources.toml").write_text(
        'format_version = 1\n[[source]]\nname = "s"\nkind = "orders"\npath = "o.csv"\n[source.columns]\n'
        'source_id = "who"\norder_id = "order"\nitem_id = "item"\nquantity = "qty"\nprice = "price"\n'
        'timestamp = "at"\n'
    )
    workspace = Workspace(tmp_path / "w")
    report = ingest(tmp_path / "sources.toml", workspace, KEY)
    assert report.refused == {"unusable_id": 1}, "64 KB are no id; everything else is one, as it stands"
    kept = [who for who in hostile if len(who) < 65_536]
    assert report.customers["customers"] == len(kept)
    (part,) = workspace.tables.glob("identities/*.parquet")
    assert set(pl.read_parquet(part)["source_id"]) == {KEY.pseudonym("s", who) for who in kept}
