"""Text columns to typed columns, and the rules that refuse a row, each with its name."""

from __future__ import annotations

import polars as pl

from training.data.readers import REFUSED_SCHEMA
from training.data.sources import Source
from training.data.tables import EVENT_TYPES

UTC = pl.Datetime("us", "UTC")
MONEY = pl.Decimal(18, 4)

# Our field to its type; every other field stays text.
TYPES: dict[str, pl.DataType] = {
    "timestamp": UTC,
    "registered_at": UTC,
    "available_from": UTC,
    "available_to": UTC,
    "birth_date": pl.Date(),
    "quantity": pl.Int64(),
    "price": MONEY,
    "cost": MONEY,
    "discount": MONEY,
    "rating": pl.Float32(),
    "rank": pl.Int32(),
    "propensity": pl.Float64(),
}
# A record of a person is worth keeping without these, so what cannot be read there becomes null.
_LENIENT = {"customers": {"birth_date", "registered_at"}}
_NEEDS_NO_ITEM = ("search", "message")
_NOT_NEGATIVE = ("price", "cost")
_EPOCH_UNITS = (("s", 1e9, 1e11), ("ms", 1e11, 1e14), ("us", 1e14, 1e17), ("ns", 1e17, 1e20))
_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f UTC", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d", "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M", "%d.%m.%Y", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%d/%m/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M", "%d/%m/%Y", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y", "%Y%m%d%H%M%S", "%Y%m%d",
)  # fmt: skip


def conform(source: Source, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give rows of text their types and split them into (accepted, refused).

    Accepted rows keep `row` and `digest` and gain constants and the channel; refused rows are REFUSED_SCHEMA,
    with the first rule that they break. A derived source refuses none: what cannot be read is null.
    """
    names = [n for n in rows.columns if n not in ("row", "digest")]
    texts = [_cleaned(n) for n in names] + [pl.lit(v).alias(k) for k, v in source.constants.items()]
    rows = rows.with_columns(texts)
    if "channel" not in rows.columns:
        rows = rows.with_columns(pl.lit(source.channel or source.name).alias("channel"))
    for name, mapping in source.values.items():
        if name in rows.columns:
            rows = rows.with_columns(pl.col(name).replace(mapping))
    typed = [_typed(rows[n], n, source) for n in rows.columns if n in TYPES]
    unread = [s.is_null() & rows[s.name].is_not_null() for s in typed]
    rows = rows.with_columns(typed)
    if source.kind in ("orders", "events"):
        rows = rows.with_columns(_event(source, rows)).with_columns(
            *([pl.col("quantity").abs()] if "quantity" in rows.columns else [])
        )
    if source.derived:
        return rows, pl.DataFrame(schema=REFUSED_SCHEMA)
    return _split(rows, source, {s.name: u for s, u in zip(typed, unread, strict=True)})


def refuse(rows: pl.DataFrame, bad: pl.Expr, field: str, reason: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split rows into those without and those with a fault (REFUSED_SCHEMA with `file`)."""
    mask = rows.select(bad.fill_null(False)).to_series()
    refused = rows.filter(mask).select(
        "file", "row", pl.lit(field).alias("field"), pl.lit(reason).alias("reason")
    )
    return rows.filter(~mask), refused


def parse_times(texts: pl.Series, timezone: str = "UTC", fmt: str | None = None) -> pl.Series:
    """Parse timestamps to UTC microseconds; what no format takes is null.

    Takes ISO 8601 with or without an offset, the usual written forms and Unix seconds to nanoseconds. Of
    day-first and month-first the one that more rows fit wins. Naive times are in `timezone`; in the repeated
    hour of autumn the earlier is meant, and an hour that spring skips is no time.
    """
    parsed = pl.Series(texts.name, [None], dtype=UTC).new_from_index(0, texts.len())
    for candidate in [fmt] if fmt else _fitting_formats(texts):
        left = parsed.is_null() & texts.is_not_null()
        if not left.any():
            return parsed
        part = texts.filter(left).str.to_datetime(candidate, time_unit="us", strict=False, exact=True)
        if part.dtype == pl.Datetime("us"):
            part = part.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
        part = part.dt.convert_time_zone("UTC")
        parsed = part if left.all() else parsed.scatter(left.arg_true(), part)
    return parsed if fmt else _epoch_times(texts, parsed)


def _fitting_formats(texts: pl.Series) -> list[str]:
    """The formats, best fit of a sample first, so that the common case parses each row once."""
    sample = texts.drop_nulls().gather_every(max(1, texts.len() // 2000))
    fits = {f: sample.str.to_datetime(f, time_unit="us", strict=False).is_not_null().sum() for f in _FORMATS}
    days_first = sum(n for f, n in fits.items() if f.startswith("%d/"))
    months_first = sum(n for f, n in fits.items() if f.startswith("%m/"))
    refused = "%m/" if days_first >= months_first else "%d/"
    return sorted((f for f in _FORMATS if not f.startswith(refused)), key=lambda f: -fits[f])


def _epoch_times(texts: pl.Series, parsed: pl.Series) -> pl.Series:
    left = parsed.is_null() & texts.is_not_null()
    if not left.any():
        return parsed
    numbers = texts.cast(pl.Float64, strict=False)
    for unit, low, high in _EPOCH_UNITS:
        fits = left & (numbers >= low) & (numbers < high)
        if fits.any():
            per_second = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}[unit]
            times = (numbers.filter(fits) * per_second).round().cast(pl.Int64).cast(UTC)
            parsed = parsed.scatter(fits.arg_true(), times)
    return parsed


def _cleaned(name: str) -> pl.Expr:
    text = pl.col(name).str.strip_chars()
    return pl.when(text.is_in(["", "\\N"])).then(None).otherwise(text).alias(name)


def _typed(texts: pl.Series, name: str, source: Source) -> pl.Series:
    dtype = TYPES[name]
    if dtype == UTC:
        return parse_times(texts, source.timezone, source.timestamp_format)
    if dtype == pl.Date:
        return parse_times(texts).dt.date()
    if dtype == pl.Int64 or dtype == pl.Int32:
        numbers = texts.cast(pl.Float64, strict=False)
        whole = texts.cast(pl.Int64, strict=False)
        exact = numbers.filter(whole.is_null())
        if exact.len() > exact.null_count():
            whole = pl.select(
                pl.coalesce(
                    whole, pl.when(numbers == numbers.round()).then(numbers).cast(pl.Int64, strict=False)
                )
            ).to_series()
        return whole.cast(dtype, strict=False).alias(name)
    factor = source.scale.get(name)
    if dtype == MONEY:
        if factor is not None:
            texts = (texts.cast(pl.Float64, strict=False) * factor).cast(pl.String)
        return texts.cast(MONEY, strict=False)
    numbers = texts.cast(pl.Float64, strict=False) * (1.0 if factor is None else factor)
    return pl.select(pl.when(numbers.is_finite()).then(numbers).cast(dtype).alias(name)).to_series()


def _event(source: Source, rows: pl.DataFrame) -> pl.Expr:
    """The event's type; cancelled orders and negative quantities are returns, not faults."""
    event = pl.col("event").str.to_lowercase() if "event" in rows.columns else pl.lit("purchase")
    sent_back = pl.lit(False)
    if "quantity" in rows.columns:
        sent_back = pl.col("quantity") < 0
    if source.cancelled_order_prefix and "order_id" in rows.columns:
        sent_back = sent_back | pl.col("order_id").str.starts_with(source.cancelled_order_prefix)
    return pl.when(sent_back & (event == "purchase")).then(pl.lit("return")).otherwise(event).alias("event")


def _split(
    rows: pl.DataFrame, source: Source, unread: dict[str, pl.Series]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    faults: list[tuple[pl.Series, str, str]] = []
    for name, mask in unread.items():
        if name not in _LENIENT.get(source.kind, ()):
            times = TYPES[name] in (UTC, pl.Date())
            faults.append((mask, name, "unparsable_date" if times else "bad_value"))
    rules = [(pl.col(name).is_null(), name, "missing_field") for name in source.needs]
    if source.kind == "events":
        needs_item = pl.col("item_id").is_null() if "item_id" in rows.columns else pl.lit(True)
        rules.append((needs_item & ~pl.col("event").is_in(_NEEDS_NO_ITEM), "item_id", "missing_field"))
    if source.kind in ("events", "orders"):
        rules.append((~pl.col("event").is_in(EVENT_TYPES), "event", "bad_value"))
    for name in _NOT_NEGATIVE:
        if name in rows.columns:
            rules.append((pl.col(name) < 0, name, "negative_price"))
    masks = rows.select(rule.fill_null(False).alias(str(i)) for i, (rule, _, _) in enumerate(rules))
    faults += [(masks[str(i)], field, reason) for i, (_, field, reason) in enumerate(rules)]
    first = pl.Series([None], dtype=pl.Int16).new_from_index(0, rows.height)
    for i, (mask, _, _) in reversed(list(enumerate(faults))):
        if mask.any():
            first = pl.select(pl.when(mask).then(pl.lit(i, dtype=pl.Int16)).otherwise(first)).to_series()
    broken = first.is_not_null()
    if not broken.any():
        return rows, pl.DataFrame(schema=REFUSED_SCHEMA)
    rule = first.filter(broken)
    refused = rows.filter(broken).select(
        "row",
        pl.Series("field", [faults[i][1] for i in rule]),
        pl.Series("reason", [faults[i][2] for i in rule]),
    )
    return rows.filter(~broken), refused
