"""Febrl's generated people (shared test data): records of sets 1 to 4 with their truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

FEBRL = Path(__file__).parents[2] / "shared" / "data" / "febrl"


def febrl(names: tuple[str, ...]) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    """Return the records of some of its files with our field names, and who each is [n]."""
    parts = [pl.read_csv(FEBRL / f"{name}.csv.gz", infer_schema=False) for name in names]
    frame = pl.concat([p.rename({c: c.strip() for c in p.columns}) for p in parts])
    frame = frame.with_columns(pl.all().str.strip_chars()).with_columns(
        pl.when(pl.all() != "").then(pl.all())
    )
    number = frame["rec_id"].str.extract(r"rec-(\d+)-").cast(pl.Int64).to_numpy()
    records = frame.select(
        "given_name",
        pl.col("surname").alias("family_name"),
        pl.col("date_of_birth").str.to_date("%Y%m%d", strict=False).alias("birth_date"),
        pl.concat_str("street_number", "address_1", separator=" ", ignore_nulls=True).alias("street"),
        pl.col("suburb").alias("city"),
        "postcode",
        "state",
        pl.col("soc_sec_id").alias("gov_id"),
    )
    return records, number
