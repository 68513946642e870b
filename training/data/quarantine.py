"""Refused rows with their reasons, in a folder that its owner alone can read: raw data, no artefact."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from training.data.readers import raw_texts
from training.data.sources import Source

SCHEMA = {
    "source": pl.String,
    "file": pl.String,
    "row": pl.UInt32,
    "field": pl.String,
    "reason": pl.String,
    "raw": pl.String,
}


def with_raw_text(source: Source, files: Sequence[Path], refused: pl.DataFrame) -> pl.DataFrame:
    """Give refused rows (file number, row, field, reason) their source, file name and raw text: SCHEMA."""
    parts = [pl.DataFrame(schema=SCHEMA)]
    for number, path in enumerate(files):
        rows = refused.filter(pl.col("file") == number)
        if rows.is_empty():
            continue
        texts = raw_texts(source, path, rows["row"].cast(pl.Int64).to_numpy())
        rows = rows.with_columns(
            pl.lit(source.name).alias("source"),
            pl.lit(relative_name(source, path)).alias("file"),
            pl.Series("raw", [texts[row] for row in rows["row"]], dtype=pl.String),
        )
        parts.append(rows.select(list(SCHEMA)))
    return pl.concat(parts).sort("file", "row")


def relative_name(source: Source, path: Path) -> str:
    """How reports and quarantine call a file: relative to the sources file where it lies under it."""
    return path.relative_to(source.base).as_posix() if path.is_relative_to(source.base) else path.name


def write_quarantine(folder: Path, refused: pl.DataFrame) -> None:
    """Replace the quarantine with these rows (folder mode 700, file mode 600), complete or not at all."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    staged = folder / f".refused.{os.getpid()}"
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        refused.write_parquet(stream, compression="zstd")
        stream.flush()
        os.fsync(stream.fileno())
    staged.replace(folder / "refused.parquet")
