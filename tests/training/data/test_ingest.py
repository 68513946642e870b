"""Ingest: every row is in the tables or in quarantine with its reason, and order does not matter."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.snapshots import SNAPSHOT_FILE, snapshot_sha256
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.errors import IngestError
from shopsight.training.data.ingest import IngestReport, ingest
from shopsight.training.data.shop import ShopSpec, make_shop
from shopsight.training.data.tables import SCHEMAS, scan_table
from tests.recorded_progress import RecordedProgress

KEY = PseudonymKey("test", b"k" * 32)
FIXTURE = Path(__file__).parents[2] / "fixtures" / "messy_shop"
RETAIL = Path(__file__).parents[4] / "shared" / "data" / "online_retail" / "online_retail.csv.gz"

ORDERS = """format_version = 1
[[source]]
name = "web"
kind = "orders"
path = "{path}"
[source.columns]
source_id = "who"
order_id = "order"
item_id = "item"
quantity = "qty"
price = "price"
timestamp = "at"
"""
HEADER = "who,order,item,qty,price,at"
GOOD = "u1,o1,i1,2,9.50,2024-05-01 10:00:00"


def run(folder: Path, sources: Path | None = None) -> tuple[IngestReport, Workspace]:
    workspace = Workspace(folder / "workspace")
    return ingest(sources or folder / "sources.toml", workspace, KEY), workspace


def orders(folder: Path, content: str | bytes, name: str = "orders.csv") -> Path:
    data = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(data)
    sources = folder / "sources.toml"
    sources.write_text(ORDERS.format(path=name))
    return sources


def quarantine(workspace: Workspace) -> pl.DataFrame:
    return pl.read_parquet(workspace.quarantine / "refused.parquet")


def table(workspace: Workspace, name: str) -> pl.DataFrame:
    return scan_table(workspace.tables, name).collect()


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> tuple[IngestReport, Workspace]:
    return run(tmp_path_factory.mktemp("messy"), FIXTURE / "sources.toml")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, IngestReport, Workspace]:
    folder = tmp_path_factory.mktemp("shop")
    make_shop(ShopSpec(num_customers=400, seed=5), folder / "raw", folder / "truth")
    report, workspace = run(folder, folder / "raw" / "sources.toml")
    return folder, report, workspace


def test_every_row_of_every_file_is_accepted_or_refused(messy: tuple[IngestReport, Workspace]) -> None:
    report, workspace = messy
    refused = quarantine(workspace)
    for file in report.files:
        assert file.accepted + file.refused == file.read, file
        assert refused.filter(pl.col("file") == file.file).height == file.refused, file
    assert sum(report.refused.values()) == refused.height == report.read - report.accepted
    for name, schema in SCHEMAS.items():
        assert dict(table(workspace, name).schema) == dict(pl.Schema(schema)), name


def test_the_bytes_of_every_file_are_counted_once_while_they_are_read(tmp_path: Path) -> None:
    progress = RecordedProgress()
    report = ingest(FIXTURE / "sources.toml", Workspace(tmp_path), KEY, progress=progress)
    size = sum((FIXTURE / file.file).stat().st_size for file in report.files)
    assert progress.total_of("reading") == progress.done_of("reading") == size > 0


def test_each_planted_fault_of_the_messy_shop_is_refused_by_its_rule(
    messy: tuple[IngestReport, Workspace],
) -> None:
    found = quarantine(messy[1])
    rows = {(r["file"], r["row"]): (r["reason"], r["field"]) for r in found.iter_rows(named=True)}
    assert rows["orders.csv", 40] == ("duplicate", None)
    assert rows["orders.csv", 50] == ("unparsable_date", "timestamp")
    assert rows["orders.csv", 70] == ("negative_price", "price")
    assert rows["orders.csv", 80] == ("missing_field", "item_id")
    assert rows["orders.csv", 100] == ("malformed_row", None)
    assert rows["orders.csv", 110] == ("broken_utf8", None)
    assert rows["orders.csv", 133] == ("unknown_item", "item_id")
    assert rows["orders.csv", 142] == ("bad_value", "quantity")
    assert rows["clicks.jsonl.gz", 61] == ("bad_value", "event")
    assert rows["messages.csv", 175] == ("duplicate", "message_id")
    raw = found.filter((pl.col("file") == "orders.csv") & (pl.col("row") == 50))["raw"].item()
    assert raw == "5900,1,w3,A101,1,9.99,31/31/2024"


def test_all_bad_rows_that_the_shop_plants_are_found_and_no_good_one(
    shop: tuple[Path, IngestReport, Workspace],
) -> None:
    folder, report, workspace = shop
    planted = pl.read_parquet(folder / "truth" / "bad_rows.parquet").select(
        "file", pl.col("row").cast(pl.Int64), "reason"
    )
    found = quarantine(workspace).select("file", pl.col("row").cast(pl.Int64), "reason")
    assert planted.height > 50
    assert sorted(found.iter_rows()) == sorted(planted.iter_rows())
    assert all(file.accepted + file.refused == file.read for file in report.files)


def test_a_second_run_gives_the_same_snapshot(shop: tuple[Path, IngestReport, Workspace]) -> None:
    folder, report, workspace = shop
    again = ingest(folder / "raw" / "sources.toml", workspace, KEY)
    assert again.snapshot_sha256 == report.snapshot_sha256
    assert again.customers["merged"] == again.customers["split"] == 0


def test_shuffled_and_repeated_rows_give_the_same_tables(tmp_path: Path) -> None:
    hashes = []
    for seed in range(3):
        folder = tmp_path / str(seed)
        shutil.copytree(FIXTURE, folder)
        if seed:
            for path in folder.iterdir():
                _shuffle(path, random.Random(seed))
        hashes.append(snapshot_sha256(run(folder)[1].tables))
    assert len(set(hashes)) == 1


def _shuffle(path: Path, rng: random.Random) -> None:
    """Shuffle and repeat the lines of a file whose records are lines and whose ids are not contested."""
    if path.name == "clicks.jsonl.gz":
        lines = gzip.decompress(path.read_bytes()).splitlines()
        lines += rng.sample(lines, 20)
        rng.shuffle(lines)
        path.write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    if path.name in ("orders.csv", "till.txt", "accounts.csv"):
        header, *lines = path.read_bytes().splitlines()
        lines += rng.sample(lines, 20)
        rng.shuffle(lines)
        path.write_bytes(b"\n".join([header, *lines]) + b"\n")


def test_cancelled_orders_become_returns(tmp_path: Path) -> None:
    rows = [GOOD, "u1,o2,i1,-1,9.50,2024-05-02 10:00:00", "u1,C3,i1,1,9.50,2024-05-03 10:00:00"]
    sources = orders(tmp_path, "\n".join([HEADER, *rows]))
    sources.write_text(
        sources.read_text().replace("[source.col", 'cancelled_order_prefix = "C"\n[source.col')
    )
    report, workspace = run(tmp_path)
    events = table(workspace, "events").sort("timestamp")
    assert events["event"].to_list() == ["purchase", "return", "return"]
    assert events["quantity"].to_list() == [2, 1, 1]
    assert report.refused == {}


def test_events_without_an_id_are_kept_without_a_customer(messy: tuple[IngestReport, Workspace]) -> None:
    events = table(messy[1], "events").filter(pl.col("event") == "view")
    customers = table(messy[1], "customers")["customer_id"]
    assert 0 < events["customer_id"].null_count() < events.height
    assert events["customer_id"].drop_nulls().is_in(customers.implode()).all()
    assert customers.is_unique().all()


def test_a_source_that_promises_ids_refuses_rows_without(tmp_path: Path) -> None:
    sources = orders(tmp_path, f"{HEADER}\n{GOOD}\n,o2,i1,2,9.50,2024-05-01 10:00:00\n")
    sources.write_text(sources.read_text().replace("[source.col", 'required = ["source_id"]\n[source.col'))
    report, workspace = run(tmp_path)
    assert report.refused == {"missing_field": 1}
    assert quarantine(workspace)["field"].to_list() == ["source_id"]


def test_times_are_read_in_their_zone_and_stored_as_utc(tmp_path: Path) -> None:
    times = [
        "2024-07-01 12:00",
        "2024-01-01 12:00",
        "2024-07-01T12:00:00+05:00",
        "1719828000",
        "01/07/2024 08:30",
    ]
    rows = [f"u1,o{i},i1,1,1,{at}" for i, at in enumerate(times)]
    sources = orders(tmp_path, "\n".join([HEADER, *rows, "u1,o9,i1,1,1,2024-03-31 02:30"]))
    zone = 'timezone = "Europe/Berlin"\ndate_order = "day_first"\n[source.col'
    sources.write_text(sources.read_text().replace("[source.col", zone))
    report, workspace = run(tmp_path)
    events = table(workspace, "events").sort("order_id")
    assert [str(t)[:16] for t in events["timestamp"]] == [
        "2024-07-01 10:00",
        "2024-01-01 11:00",
        "2024-07-01 07:00",
        "2024-07-01 10:00",
        "2024-07-01 06:30",
    ]
    assert report.refused == {"skipped_hour": 1}, "an hour that summer time skips is no time"


def test_quoted_line_ends_keep_their_record_and_an_open_quote_costs_its_own_row(tmp_path: Path) -> None:
    folder = tmp_path
    (folder / "m.csv").write_text('id,text\n1,"two\nlines"\n2,5" pipe\n3,fine\n4,"cut\n5,"x ""y"" z"\n6,ok\n')
    (folder / "sources.toml").write_text(
        'format_version = 1\n[[source]]\nname = "s"\nkind = "messages"\npath = "m.csv"\n'
        '[source.columns]\nmessage_id = "id"\ntext = "text"\n'
    )
    _, workspace = run(folder)
    texts = dict(table(workspace, "messages").select("message_id", "text").iter_rows())
    assert texts == {"1": "two\nlines", "2": '5" pipe', "3": "fine", "5": 'x "y" z', "6": "ok"}
    assert quarantine(workspace).select("row", "reason").rows() == [(4, "unclosed_quote")]


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl", "parquet", "folder"])
def test_every_format_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    frame = pl.read_csv(
        f"{HEADER}\n{GOOD}\nu2,o2,i2,1,3.25,2024-05-02 11:00:00\n".encode(), infer_schema=False
    )
    path = tmp_path / f"orders.{kind}"
    if kind == "csv":
        frame.write_csv(path)
    elif kind == "csv.gz":
        path.write_bytes(gzip.compress(frame.write_csv().encode()))
    elif kind == "jsonl":
        frame.write_ndjson(path)
    elif kind == "parquet":
        typed = frame.with_columns(
            pl.col("qty").cast(pl.Int32), pl.col("price").cast(pl.Float64), pl.col("at").str.to_datetime()
        )
        typed.write_parquet(path)
    else:
        path.mkdir()
        frame.head(1).write_csv(path / "1.csv")
        frame.tail(1).write_ndjson(path / "2.jsonl")
    (tmp_path / "sources.toml").write_text(ORDERS.format(path=path.name))
    _, workspace = run(tmp_path)
    events = table(workspace, "events").select("order_id", "item_id", "quantity", "price")
    assert [tuple(map(str, row)) for row in events.iter_rows()] == [
        ("o1", "i1", "2.0000", "9.50000000"),
        ("o2", "i2", "1.0000", "3.25000000"),
    ]


def test_other_encodings_are_read_when_named(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes("id,text\n1,grün\n".encode("latin-1"))
    text = (
        'format_version = 1\n[[source]]\nname = "s"\nkind = "messages"\npath = "m.csv"\n'
        'encoding = "latin-1"\n[source.columns]\nmessage_id = "id"\ntext = "text"\n'
    )
    (tmp_path / "sources.toml").write_text(text)
    assert table(run(tmp_path)[1], "messages")["text"].to_list() == ["grün"]
    (tmp_path / "sources.toml").write_text(text.replace('encoding = "latin-1"\n', ""))
    with pytest.raises(IngestError, match=r"none of its 1 rows can be used: 1 broken_utf8.*row 1 of m\.csv"):
        run(tmp_path)


def test_labels_and_languages_come_with_the_messages(messy: tuple[IngestReport, Workspace]) -> None:
    labels, messages = table(messy[1], "labels"), table(messy[1], "messages")
    assert set(labels["task"]) == {"intent", "sentiment"}
    assert labels["message_id"].is_in(messages["message_id"].implode()).all()
    han = messages.filter(pl.col("text").str.contains(r"^\p{Han}"))
    assert han.height > 10 and set(han["language"]) == {"zh"}
    assert messages["message_id"].is_unique().all()


def test_items_of_order_lines_take_the_usual_title_and_median_price(tmp_path: Path) -> None:
    rows = ["u,o,i1,1,2.0,t,Mug", "u,o,i1,1,4.0,t,Mug", "u,o,i1,1,-1,t,Mugg", ",o,,1,9.0,t,"]
    (tmp_path / "orders.csv").write_text("\n".join([HEADER + ",title", *rows]))
    (tmp_path / "sources.toml").write_text(
        'format_version = 1\n[[source]]\nname = "s"\nkind = "items"\npath = "orders.csv"\nderived = true\n'
        '[source.columns]\nitem_id = "item"\ntitle = "title"\nprice = "price"\n'
    )
    report, workspace = run(tmp_path)
    items = table(workspace, "items")
    assert items.select("item_id", "title", pl.col("price").cast(pl.Float64)).rows() == [("i1", "Mug", 3.0)]
    assert (report.files[0].accepted, report.files[0].refused, report.files[0].folded) == (4, 0, 3)


FAULTS = {
    "missing column": (f"{HEADER.replace('item', 'itm')}\n{GOOD}\n".encode(), 'no column "item".*"itm"'),
    "empty": (b"", "empty"),
    "header only": (f"{HEADER}\n".encode(), "no rows"),
    "image": (b"\x89PNG\r\n\x1a\n0000", "PNG"),
    "parquet": (b"PAR1....", "Parquet"),
    "binary": (b"a,b\0\0,c\n", "binary"),
    "no ids": (f"{HEADER}\n,o1,i1,2,9.50,2024-05-01\n".encode(), "channel without ids"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_that_cannot_be_read_gives_one_clear_message_and_leaves_nothing(
    tmp_path: Path, name: str
) -> None:
    content, message = FAULTS[name]
    orders(tmp_path, content)
    with pytest.raises(IngestError, match=message) as raised:
        run(tmp_path)
    assert "orders.csv" in str(raised.value)
    assert not list((tmp_path / "workspace").rglob("*.parquet"))


def test_a_gz_that_is_not_gzip_is_named(tmp_path: Path) -> None:
    orders(tmp_path, f"{HEADER}\n{GOOD}\n", "orders.csv.gz")
    with pytest.raises(IngestError, match="not gzip"):
        run(tmp_path)
    (tmp_path / "orders.csv.gz").write_bytes(gzip.compress(f"{HEADER}\n{GOOD}\n".encode() * 500)[:-20])
    with pytest.raises(IngestError, match="damaged gzip"):
        run(tmp_path)


def test_a_failed_run_keeps_the_last_good_state(tmp_path: Path) -> None:
    sources = orders(tmp_path, f"{HEADER}\n{GOOD}\n")
    _, workspace = run(tmp_path)
    before = (workspace.tables / SNAPSHOT_FILE).read_bytes()
    orders(tmp_path, b"\x89PNG")
    with pytest.raises(IngestError):
        ingest(sources, workspace, KEY)
    assert (workspace.tables / SNAPSHOT_FILE).read_bytes() == before


def test_a_workspace_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    sources = orders(tmp_path, f"{HEADER}\n{GOOD}\n")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(IngestError, match="workspace cannot be written"):
        ingest(sources, Workspace(tmp_path / "file" / "w"), KEY)


@pytest.mark.shared_data
@pytest.mark.skipif(not RETAIL.is_file(), reason=f"online_retail is not at {RETAIL}")
def test_online_retail_counts_are_those_published(tmp_path: Path) -> None:
    from shopsight.training.data.public.adapters import adapt

    report, workspace = run(tmp_path, adapt("online_retail", RETAIL.parent, tmp_path / "retail"))
    assert report.read == 541_909
    assert report.refused == {"duplicate": 5_268, "negative_price": 2}
    events = table(workspace, "events")
    customers = events["customer_id"].drop_nulls().n_unique()
    assert (events.height, customers, table(workspace, "items").height) == (536_639, 4_372, 4_070)
    bought = events.filter(
        pl.col("customer_id").is_not_null() & (pl.col("event") == "purchase") & (pl.col("price") > 0)
    )
    assert (bought.height, bought["customer_id"].n_unique()) == (392_692, 4_338)


def test_the_report_counts_a_file_once_and_reads_as_json(messy: tuple[IngestReport, Workspace]) -> None:
    report = messy[0]
    assert report.read == sum(file.read for file in report.files if not file.derived)
    assert json.loads(json.dumps(report.as_dict()))["backend"] == "cpu"
