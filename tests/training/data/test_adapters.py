"""Adapters: public data sets become sources files that ingest reads."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.errors import IngestError
from shopsight.training.data.ingest import ingest
from shopsight.training.data.money import totals
from shopsight.training.data.public.adapters import ADAPTERS, adapt
from shopsight.training.data.sources.load import load_sources
from shopsight.training.data.tables import scan_table
from shopsight.training.report.content import customer_cards

KEY = PseudonymKey("test", b"k" * 32)
JOURNEY = Path(__file__).parents[4] / "shared" / "data" / "completejourney"
CLINC = Path(__file__).parents[4] / "shared" / "data" / "clinc150"


def test_clinc150_keeps_splits_and_labels_what_is_out_of_scope(tmp_path: Path) -> None:
    splits = {
        "train": [["pay my bill", "pay_bill"]],
        "oos_test": [["sing a song", "oos"]],
        "val": [["hi", "greeting"]],
    }
    (tmp_path / "data_full.json").write_text(json.dumps(splits))
    workspace = Workspace(tmp_path / "w")
    ingest(adapt("clinc150", tmp_path, tmp_path / "out"), workspace, KEY)
    labels = scan_table(workspace.tables, "labels").select("label", "split", "task").collect()
    assert sorted(labels.iter_rows()) == [
        ("greeting", "validation", "intent"),
        ("out_of_scope", "test", "intent"),
        ("pay_bill", "train", "intent"),
    ]


def test_online_retail_s_sources_name_the_data_where_it_lies(tmp_path: Path) -> None:
    data = tmp_path / 'it\'s "here"'
    data.mkdir()
    (data / "online_retail.csv").write_text("InvoiceNo\n")
    sources = load_sources(adapt("online_retail", data, tmp_path / "out"))
    assert {s.kind for s in sources} == {"orders", "customers", "items"}
    assert {Path(s.path) for s in sources} == {(data / "online_retail.csv").resolve()}


def test_what_cannot_be_adapted_is_said(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match='did you mean "clinc150"'):
        adapt("clinc", tmp_path, tmp_path)
    with pytest.raises(IngestError, match=r"holds none of data_full\.json"):
        adapt("clinc150", tmp_path, tmp_path)
    (tmp_path / "data_full.json").write_text("[1]")
    with pytest.raises(IngestError, match="not CLINC150"):
        adapt("clinc150", tmp_path, tmp_path)


def test_every_adapter_says_what_it_is() -> None:
    assert all((adapter.__doc__ or "").strip() for adapter in ADAPTERS.values())


@pytest.mark.shared_data
@pytest.mark.skipif(not JOURNEY.is_dir(), reason=f"completejourney is not at {JOURNEY}")
def test_completejourney_brings_its_eight_tables(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    report = ingest(adapt("completejourney", JOURNEY, tmp_path / "out"), workspace, KEY)
    assert report.read == report.accepted + sum(report.refused.values())
    read = {file.file: file.read for file in report.files}
    assert read == {
        "transactions.csv": 75_000, "products.csv": 92_331, "demographics.csv": 801, "campaigns.csv": 6_589,
        "redemptions.csv": 2_102, "promotions.csv": 360_535,
    }  # fmt: skip
    # Lines of no pieces and no money, and products that the list of products does not have.
    assert report.refused["no_sale"] == 416 and set(report.refused) == {"no_sale", "unknown_item"}
    events = scan_table(workspace.tables, "events").collect()
    bought = events.filter(pl.col("event") == "purchase")
    raw = pl.read_csv(JOURNEY / "transactions_sample.csv.gz", infer_schema=False)
    listed = pl.read_csv(JOURNEY / "products.csv.gz", infer_schema=False)["product_id"]
    known = raw.filter(pl.col("product_id").is_in(listed.implode()))
    (sold,) = totals(bought.lazy()).select("currency", "net").rows()
    assert sold[0] == "USD" and sold[1] == pytest.approx(
        known["sales_value"].cast(pl.Float64).sum(), abs=0.01
    )
    (card,) = [card["value"] for card in customer_cards(workspace) if card["label"].startswith("revenue")]
    assert card == f"{sold[1]:,.0f} USD" == "233,931 USD"
    mailed = events.filter(pl.col("event") == "exposure")
    assert mailed.height == 6_589 and mailed["customer_id"].null_count() == 0
    redeemed = scan_table(workspace.tables, "exposures").filter(pl.col("arm") == "redeemed").collect()
    assert 1_900 < redeemed.height <= 2_102 and redeemed["customer_id"].null_count() == 0
    assert scan_table(workspace.tables, "items").collect().height == 92_331


@pytest.mark.shared_data
@pytest.mark.skipif(not CLINC.is_dir(), reason=f"clinc150 is not at {CLINC}")
def test_clinc150_has_the_published_counts(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    ingest(adapt("clinc150", CLINC, tmp_path / "out"), workspace, KEY)
    labels = scan_table(workspace.tables, "labels").collect()
    counts = dict(labels.group_by("split").len().iter_rows())
    assert counts == {"train": 15_100, "validation": 3_100, "test": 5_500}
    assert labels["label"].n_unique() == 151
