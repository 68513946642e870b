"""The quarantine: refused rows with their reasons, in a folder that only its owner can read."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from shopsight.serving.durable import private
from shopsight.training.data.sources.source import Source

SCHEMA = {
    "source": pl.String,
    "file": pl.String,
    "row": pl.UInt32,
    "field": pl.String,
    "reason": pl.String,
    "raw": pl.String,
    "source_id": pl.String,
}

# What each reason means, for people.
REASONS = {
    "broken_utf8": "bytes that are not text in the file's encoding",
    "malformed_row": "more or fewer fields than the header, or no JSON object",
    "unclosed_quote": "a quote opens a field and none closes it",
    "stray_quote": "text after the quote that closes a field",
    "repeated_header": "the header once more",
    "total_row": "a row of totals, not data",
    "missing_field": "a field that every row needs is empty",
    "bad_value": "a value that does not fit its field",
    "unparsable_date": "a date or time that cannot be read",
    "skipped_hour": "a local time that no clock showed, because summer time skips it",
    "impossible_time": "a time outside of 1990 to 2099",
    "negative_price": "a price below zero",
    "no_sale": "cancelled, unpaid or of no pieces: nothing was sold",
    "unknown_status": "a status that [source.values.status] does not name",
    "amount_without_quantity": "an amount of money for no pieces",
    "missing_currency": "a price without a currency, in its line and its order",
    "two_currencies": "an amount written with the sign of another currency than its row names",
    "order_contradicts_itself": "lines of one order that name different discounts or refunds of it",
    "unusable_id": "an id too long or with control characters",
    "duplicate": "the same record as an earlier one",
    "repeated_order": "a line of an order that an earlier event of the same customer already has",
    "unknown_item": "an item that no items source lists",
    "forgotten": "a row of an erased customer",
}


def relative_name(source: Source, path: Path) -> str:
    """How reports and quarantine call a file: relative to the sources file where it lies under it."""
    return path.relative_to(source.base).as_posix() if path.is_relative_to(source.base) else path.name


def named(refused: pl.DataFrame, source: Source, files: list[Path], first_file: int) -> pl.DataFrame:
    """Give refused rows (file number, row, field, reason, raw) their source and file name: SCHEMA."""
    names = {first_file + i: relative_name(source, path) for i, path in enumerate(files)}
    return (
        refused.with_columns(
            pl.lit(source.name).alias("source"),
            pl.col("file").replace_strict(names, return_dtype=pl.String).alias("file"),
        )
        .select(list(SCHEMA))
        .sort("file", "row")
    )


def write_quarantine(folder: Path, refused: pl.DataFrame) -> None:
    """Replace the quarantine with these rows (folder mode 700, file mode 600), complete or not at all."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    staged = folder / f".refused.{os.getpid()}"
    with private(staged) as stream:
        refused.write_parquet(stream, compression="zstd")
        stream.flush()
        os.fsync(stream.fileno())
    staged.replace(folder / "refused.parquet")


def read_quarantine(folder: Path) -> pl.DataFrame:
    """Return the refused rows: SCHEMA, empty where nothing was refused yet."""
    path = folder / "refused.parquet"
    rows = pl.read_parquet(path) if path.is_file() else pl.DataFrame(schema=SCHEMA)
    missing = [pl.lit(None, dtype=SCHEMA[name]).alias(name) for name in SCHEMA if name not in rows.columns]
    return rows.with_columns(missing)
