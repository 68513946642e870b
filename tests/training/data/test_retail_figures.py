"""Online Retail: the figure that is published, and what each cleaning rule takes from it."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.cleaning.flags import QUALITY_FILE
from shopsight.training.data.ingest import ingest
from shopsight.training.data.public.adapters import adapt
from shopsight.training.data.tables import scan_table

KEY = PseudonymKey("test", b"k" * 32)
RETAIL = Path(__file__).parents[4] / "shared" / "data" / "online_retail" / "online_retail.csv.gz"
pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not RETAIL.is_file(), reason=f"online_retail is not at {RETAIL}"),
]


def bought(workspace: Workspace) -> pl.DataFrame:
    """The stated filter: customer known, quantity and price above zero."""
    rows = scan_table(workspace.tables, "events").filter(
        pl.col("customer_id").is_not_null(), pl.col("event") == "purchase", pl.col("price") > 0
    )
    return rows.collect()


def revenue(rows: pl.DataFrame) -> float:
    return round(
        float(rows.select((pl.col("price").cast(float) * pl.col("quantity").cast(float)).sum()).item()), 2
    )


def test_with_duplicates_kept_the_revenue_is_the_published_one(tmp_path: Path) -> None:
    sources = adapt("online_retail", RETAIL, tmp_path / "retail")
    text = sources.read_text().replace('kind = "orders"', 'kind = "orders"\nkeep_duplicates = true')
    sources.write_text(text)
    workspace = Workspace(tmp_path / "w")
    report = ingest(sources, workspace, KEY)
    rows = bought(workspace)
    assert (rows.height, rows["customer_id"].n_unique(), revenue(rows)) == (397_884, 4_338, 8_911_407.90)
    assert report.refused == {"negative_price": 2}
    events = scan_table(workspace.tables, "events").select("event_id").collect()["event_id"]
    assert events.len() == 541_907 and events.is_unique().all()
    assert report.flagged["near_duplicate"] >= 5_268 - 4  # four of the repeated lines are postage or fees


def test_every_rule_counts_what_it_took_or_flagged(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    report = ingest(adapt("online_retail", RETAIL, tmp_path / "retail"), workspace, KEY)
    rows = bought(workspace)
    assert (rows.height, rows["customer_id"].n_unique(), revenue(rows)) == (392_692, 4_338, 8_887_208.89)
    flags = scan_table(workspace.tables, "flags").collect()
    events = scan_table(workspace.tables, "events").collect()
    counts = dict(flags.group_by("rule").len().iter_rows())
    assert counts == {rule: count for rule, count in report.flagged.items() if count}
    goods = scan_table(workspace.tables, "items").filter("goods").select("item_id").collect()
    returns = events.filter(pl.col("event") == "return").join(goods, on="item_id")
    assert counts["return_matched"] + counts["return_unmatched"] == returns.height
    pairs = flags.filter(pl.col("rule") == "return_matched")
    pairs = pairs.join(events, left_on="id", right_on="event_id").join(
        events, left_on="related_id", right_on="event_id", suffix="_bought"
    )
    assert pairs.height == counts["return_matched"] > 7_000
    assert (pairs["customer_id"] == pairs["customer_id_bought"]).all()
    assert (pairs["item_id"] == pairs["item_id_bought"]).all()
    assert (pairs["timestamp"] >= pairs["timestamp_bought"]).all()
    quality = json.loads((workspace.reports / QUALITY_FILE).read_text())
    assert quality["refused"] == report.refused and quality["flagged"] == report.flagged
