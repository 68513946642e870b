"""What one writes by hand for one file of events, in Polars and in pandas, twice each.

`bare` keeps the good rows and forgets the others. `accounted` also does what ingest promises: fields without
white space around them, every row judged by the same rules in the same order, every refused row kept with its
number, its reason and its fields; the raw file known by its SHA-256 and its typed rows kept as Arrow, so that
the next run need not read it again; the table on the disk (fsync) and known by its SHA-256. Neither checks
the width of rows, finds bytes that are not UTF-8 in any column but two, or names events by a keyed hash that
another machine would make again; ingest does.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
import polars as pl

_EVENTS = {"pageview": "view", "add_to_cart": "cart", "search": "search"}
_TIME = "%Y-%m-%d %H:%M:%S"
_POLARS: dict[str, Any] = {"infer_schema": False, "encoding": "utf8-lossy", "truncate_ragged_lines": True}
_PANDAS: dict[str, Any] = {"dtype": str, "encoding_errors": "replace", "on_bad_lines": "skip"}
_BROKEN = "\ufffd"


def polars_bare(raw: Path, customers: pl.DataFrame, items: pl.Series, out: Path) -> int:
    """Typed, bad rows, duplicates and unknown items out, customers joined, sorted, written."""
    rows = pl.read_csv(raw / "web_events.csv", **_POLARS).unique(maintain_order=True)
    table = (
        rows.lazy()
        .with_columns(_polars_types())
        .filter(
            pl.col("event_time").is_not_null(),
            pl.col("action").is_in(list(_EVENTS.values())),
            pl.col("unit_price").is_null() | (pl.col("unit_price") >= 0),
            pl.col("sku").is_in(items.implode()) | (pl.col("sku").is_null() & (pl.col("action") == "search")),
            ~pl.concat_str("session_id", "page", ignore_nulls=True).str.contains(_BROKEN, literal=True),
        )
        .join(customers.lazy(), left_on="visitor_id", right_on="source_id", how="left")
        .with_columns(pl.struct(rows.columns).hash().alias("event_id"))
        .sort("customer_id", "event_time", "event_id")
        .collect()
    )
    table.write_parquet(out)
    return table.height


def polars_accounted(raw: Path, customers: pl.DataFrame, items: pl.Series, out: Path) -> int:
    """The same with a reason for every row that is refused."""
    rows = pl.read_csv(raw / "web_events.csv", row_index_name="row", row_index_offset=1, **_POLARS)
    names = rows.columns[1:]
    search, text = pl.col("action") == "search", pl.concat_str("session_id", "page", ignore_nulls=True)
    missing = (
        pl.col("action").is_null() | pl.col("event_time").is_null() | (pl.col("sku").is_null() & ~search)
    )
    judged = (
        rows.lazy()
        .with_columns(pl.struct(names).hash().alias("event_id"))
        .with_columns(_polars_stripped(name) for name in names)
        .with_columns(expression.name.prefix("typed_") for expression in _polars_types())
        .with_columns(
            pl.coalesce(
                pl.when(text.str.contains(_BROKEN, literal=True)).then(pl.lit("broken_utf8")),
                _polars_unread("event_time", "unparsable_date"),
                _polars_unread("quantity", "bad_value"),
                _polars_unread("unit_price", "bad_value"),
                pl.when(missing).then(pl.lit("missing_field")),
                pl.when(~pl.col("typed_action").is_in(list(_EVENTS.values()))).then(pl.lit("bad_value")),
                pl.when(pl.col("typed_unit_price") < 0).then(pl.lit("negative_price")),
                pl.when(~pl.col("event_id").is_first_distinct()).then(pl.lit("duplicate")),
                pl.when(pl.col("sku").is_not_null() & ~pl.col("sku").is_in(items.implode()))
                .then(pl.lit("unknown_item")),
            ).alias("reason")
        )
        .collect()
    )  # fmt: skip
    refused = judged.filter(pl.col("reason").is_not_null()).select("row", "reason", *names)
    refused.write_parquet(out.with_suffix(".refused"))
    _sha256(raw / "web_events.csv")
    judged.filter(pl.col("reason").is_null()).write_ipc(out.with_suffix(".arrow"))
    table = (
        judged.lazy()
        .filter(pl.col("reason").is_null())
        .join(customers.lazy(), left_on="visitor_id", right_on="source_id", how="left")
        .select("event_id", "customer_id", "session_id", "sku", "currency", pl.col("^typed_.*$"))
        .sort("customer_id", "typed_event_time", "event_id")
        .collect()
    )
    table.write_parquet(out)
    _made_sure(out)
    return table.height


def pandas_bare(raw: Path, customers: pd.DataFrame, items: list[str], out: Path) -> int:
    """As polars_bare."""
    rows = pd.read_csv(raw / "web_events.csv", **_PANDAS).drop_duplicates()
    names = list(rows.columns)
    _pandas_types(rows, rows)
    text = rows["session_id"].fillna("") + rows["page"].fillna("")
    kept = (
        rows["event_time"].notna()
        & rows["action"].isin(list(_EVENTS.values()))
        & (rows["unit_price"].isna() | (rows["unit_price"] >= 0))
        & (rows["sku"].isin(items) | (rows["sku"].isna() & (rows["action"] == "search")))
        & ~text.str.contains(_BROKEN, regex=False)
    )
    table = rows[kept].merge(customers, left_on="visitor_id", right_on="source_id", how="left")
    table["event_id"] = pd.util.hash_pandas_object(table[names], index=False)
    table.sort_values(["customer_id", "event_time", "event_id"]).to_parquet(out)
    return len(table)


def pandas_accounted(raw: Path, customers: pd.DataFrame, items: list[str], out: Path) -> int:
    """As polars_accounted."""
    rows = pd.read_csv(raw / "web_events.csv", **_PANDAS)
    event_id = pd.util.hash_pandas_object(rows, index=False)
    for name in rows.columns:
        rows[name] = rows[name].str.strip().replace({"": None, "\\N": None})
    typed = pd.DataFrame(index=rows.index)
    _pandas_types(rows, typed)
    text = rows["session_id"].fillna("") + rows["page"].fillna("")
    reason = pd.Series(None, index=rows.index, dtype="str")
    rules = [
        (text.str.contains(_BROKEN, regex=False), "broken_utf8"),
        (typed["event_time"].isna() & rows["event_time"].notna(), "unparsable_date"),
        (typed["quantity"].isna() & rows["quantity"].notna(), "bad_value"),
        (typed["unit_price"].isna() & rows["unit_price"].notna(), "bad_value"),
        (rows["action"].isna() | rows["event_time"].isna(), "missing_field"),
        (rows["sku"].isna() & (rows["action"] != "search"), "missing_field"),
        (~typed["action"].isin(list(_EVENTS.values())), "bad_value"),
        (typed["unit_price"] < 0, "negative_price"),
        (event_id.duplicated(), "duplicate"),
        (rows["sku"].notna() & ~rows["sku"].isin(items), "unknown_item"),
    ]
    for broken, why in reversed(rules):
        reason[broken] = why
    refused = rows[reason.notna()].assign(reason=reason[reason.notna()])
    refused.to_parquet(out.with_suffix(".refused"))
    _sha256(raw / "web_events.csv")
    kept = typed.add_prefix("typed_").join(rows)[reason.isna()].reset_index(drop=True)
    kept.to_feather(out.with_suffix(".arrow"), compression="uncompressed")
    table = typed[reason.isna()].assign(
        event_id=event_id, session_id=rows["session_id"], sku=rows["sku"], visitor_id=rows["visitor_id"]
    )
    table = table.merge(customers, left_on="visitor_id", right_on="source_id", how="left")
    table.sort_values(["customer_id", "event_time", "event_id"]).to_parquet(out)
    _made_sure(out)
    return len(table)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _made_sure(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    _sha256(path)


def _polars_types() -> list[pl.Expr]:
    time = pl.col("event_time").str.to_datetime(_TIME, time_unit="us", strict=False)
    return [
        time.dt.replace_time_zone("UTC"),
        pl.col("quantity").cast(pl.Int64, strict=False),
        pl.col("unit_price").cast(pl.Decimal(18, 4), strict=False),
        pl.col("action").replace(_EVENTS),
    ]


def _polars_stripped(name: str) -> pl.Expr:
    text = pl.col(name).str.strip_chars()
    return pl.when((text != "") & (text != "\\N")).then(text).alias(name)


def _polars_unread(name: str, why: str) -> pl.Expr:
    unread = pl.col(f"typed_{name}").is_null() & pl.col(name).is_not_null()
    return pl.when(unread).then(pl.lit(why))


def _pandas_types(rows: pd.DataFrame, into: pd.DataFrame) -> None:
    into["event_time"] = pd.to_datetime(rows["event_time"], format=_TIME, errors="coerce", utc=True)
    into["quantity"] = pd.to_numeric(rows["quantity"], errors="coerce").astype("Int64")
    into["unit_price"] = pd.to_numeric(rows["unit_price"], errors="coerce")
    into["action"] = rows["action"].replace(_EVENTS)
