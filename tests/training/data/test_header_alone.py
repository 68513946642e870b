"""A file with a header and no rows is told by its name with the remedy, whatever its format."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.describing.validate import validate
from shopsight.training.data.errors import IngestError
from shopsight.training.data.ingest import ingest

COLUMNS = ("order_id", "customer_id", "sku", "quantity", "price", "date")
SHOPIFY = (
    "Name,Email,Financial Status,Paid at,Fulfillment Status,Currency,Subtotal,Shipping,Taxes,Total,"
    "Discount Code,Discount Amount,Created at,Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku,"
    "Cancelled at,Refunded Amount,Id\n"
)
GOOD = "order_id,customer_id,sku,quantity,price,date\n1,c1,s1,1,2.50,2024-01-01\n2,c2,s1,1,2.50,2024-01-02\n"


def header_alone(folder: Path, kind: str) -> Path:
    path = folder / f"orders.{kind}"
    if kind == "parquet":
        pl.DataFrame({name: pl.Series([], dtype=pl.String) for name in COLUMNS}).write_parquet(path)
    else:
        path.write_text({"csv": ",", "txt": "\t"}[kind].join(COLUMNS) + "\n")
    return path


@pytest.mark.parametrize("kind", ["csv", "txt", "parquet"])
def test_validate_tells_the_file_and_the_remedy(kind: str, tmp_path: Path) -> None:
    path = header_alone(tmp_path, kind)
    with pytest.raises(IngestError, match=rf"orders\.{kind}: a header but no rows; export it again"):
        validate([path], tmp_path / "sources.toml")


def test_validate_tells_it_of_a_known_export_too(tmp_path: Path) -> None:
    path = tmp_path / "orders_export.csv"
    path.write_text(SHOPIFY)
    with pytest.raises(IngestError, match=r"orders_export\.csv: a header but no rows; export it again"):
        validate([path], tmp_path / "sources.toml")


def test_validate_drafts_the_other_files_and_stays_open(tmp_path: Path) -> None:
    path, good = header_alone(tmp_path, "parquet"), tmp_path / "sales.csv"
    good.write_text(GOOD)
    draft = validate([good, path], tmp_path / "sources.toml")
    assert draft.is_open
    assert any("orders.parquet: a header but no rows" in line for line in draft.lines)
    assert "orders.parquet" not in (tmp_path / "sources.toml").read_text()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_ingest_tells_the_file_and_the_remedy(kind: str, tmp_path: Path) -> None:
    path = header_alone(tmp_path, kind)
    columns = "\n".join(
        f"{field} = {json.dumps(column)}"
        for field, column in (("source_id", "customer_id"), ("order_id", "order_id"), ("item_id", "sku"),
                              ("timestamp", "date"), ("quantity", "quantity"), ("price", "price"))
    )  # fmt: skip
    sources = tmp_path / "sources.toml"
    sources.write_text(
        f'format_version = 1\n[[source]]\nname = "shop"\nkind = "orders"\npath = "{path.name}"\n'
        f'timezone = "UTC"\n[source.columns]\n{columns}\n'
    )
    with pytest.raises(IngestError, match=rf"orders\.{kind}: a header but no rows; export it again or take"):
        ingest(sources, Workspace(tmp_path / "w"), PseudonymKey("k", b"k" * 32))
