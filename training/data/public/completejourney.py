"""The Complete Journey (84.51°): eight tables of a grocer brought to the kinds that ingest reads."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from shopsight.training.data.errors import IngestError

_TABLES = {
    "transactions": ("transactions_sample", "transactions"),
    "products": ("products",),
    "demographics": ("demographics",),
    "campaigns": ("campaigns",),
    "campaign_descriptions": ("campaign_descriptions",),
    "coupons": ("coupons",),
    "coupon_redemptions": ("coupon_redemptions",),
    "promotions": ("promotions_sample", "promotions"),
}
_FIRST_WEEK = "2017-01-01"


def convert(path: Path, out: Path) -> None:
    """Write the eight tables as the CSV files that public/completejourney.toml describes.

    A line's `sales_value` is the total that the shop received, after its discounts. Campaigns are exposures
    of a household; a redeemed coupon is an exposure of the first product that it is for; promotions are
    exposures of nobody in particular. Raises IngestError for a table that is not there.
    """
    tables = {name: _read(path, names) for name, names in _TABLES.items()}
    _orders(tables["transactions"]).write_csv(out / "transactions.csv")
    _products(tables["products"]).write_csv(out / "products.csv")
    tables["demographics"].write_csv(out / "demographics.csv")
    campaigns = tables["campaigns"].join(tables["campaign_descriptions"], on="campaign_id", how="left")
    campaigns.with_columns(_campaign()).write_csv(out / "campaigns.csv")
    _redemptions(tables["coupon_redemptions"], tables["coupons"]).write_csv(out / "redemptions.csv")
    _promotions(tables["promotions"]).write_csv(out / "promotions.csv")


def _read(path: Path, names: tuple[str, ...]) -> pl.DataFrame:
    for name in names:
        for suffix in (".csv.gz", ".csv", ".parquet"):
            file = path / f"{name}{suffix}"
            if file.is_file() and suffix == ".parquet":
                return pl.read_parquet(file).cast(pl.String)
            if file.is_file():
                return pl.read_csv(file, infer_schema=False)
    raise IngestError(f"{path}: holds no {' or '.join(names)} (.csv.gz, .csv or .parquet)")


def _orders(rows: pl.DataFrame) -> pl.DataFrame:
    # coupon_disc is paid by manufacturers, so it is no discount of the shop.
    discounts = (pl.col(n).cast(pl.Float64) for n in ("retail_disc", "coupon_match_disc"))
    return rows.with_columns(
        pl.col("sales_value").cast(pl.Float64).round(2),
        pl.sum_horizontal(discounts).round(4).alias("discount"),
    )


def _products(rows: pl.DataFrame) -> pl.DataFrame:
    levels = ("department", "product_category", "product_type")
    return rows.with_columns(
        pl.concat_str(levels, separator=" / ", ignore_nulls=True).alias("category_path"),
        pl.coalesce(levels[::-1]).alias("title"),
        pl.col("package_size").alias("attributes"),
    )


def _redemptions(rows: pl.DataFrame, coupons: pl.DataFrame) -> pl.DataFrame:
    first = coupons.group_by("coupon_upc", "campaign_id").agg(pl.col("product_id").min())
    request = pl.format("campaign {} to {}", "campaign_id", "household_id")
    joined = rows.join(first, on=["coupon_upc", "campaign_id"], how="left", maintain_order="left")
    return joined.with_columns(_campaign(), request.alias("request_id"))


def _promotions(rows: pl.DataFrame) -> pl.DataFrame:
    week = pl.col("week").cast(pl.Int64)
    start = pl.lit(_FIRST_WEEK).str.to_date() + pl.duration(days=7 * (week - 1))
    return rows.with_columns(
        pl.format("store {} week {}", "store_id", "week").alias("request_id"),
        pl.format("mailer {}", "mailer_location").alias("mailer"),
        pl.format("display {}", "display_location").alias("display"),
        start.cast(pl.String).alias("week_start"),
    )


def _campaign() -> pl.Expr:
    return pl.format("campaign {}", "campaign_id").alias("campaign")
