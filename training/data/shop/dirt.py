"""Bad rows: planted in every raw file, each one written down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from shopsight.training.data.shop.files import BROKEN_UTF8, CUT_LINE, EXTRA_COLUMN

_DATES = (
    "2025-02-30 10:00:00",
    "31.13.2025",
    "0000-00-00 00:00:00",
    "yesterday",
    "n/a",
    "2026-06-31T25:61:00Z",
)


@dataclass(frozen=True)
class Weakness:
    """The columns of one raw file in which it can go bad; an empty name means it cannot in that way.

    fresh: an id that every spoilt row gets anew, so that nothing but its own damage makes it bad. It is
    text, needs no quotes, and is not the last column.
    text: where broken bytes appear; required: what may be missing; event: what happened, where a row may be
    a refund, whose price may have either sign.
    """

    fresh: str
    text: str
    required: str
    date: str = ""
    price: str = ""
    item: str = ""
    event: str = ""


def spoil(
    frame: pl.DataFrame, weakness: Weakness, share: float, rng: np.random.Generator, tag: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Add bad rows to a frame of good ones and return it with (row, reason), rows counted from 1.

    Every reason that the file can have occurs at least once. Bad rows are damaged copies of good ones under
    ids of their own (`tag` makes them unique); duplicates are exact copies, later in the file. Good rows
    keep their order.
    """
    if share == 0 or frame.is_empty():
        return frame, _bad([], [])
    reasons = ["duplicate", "broken_utf8", "malformed_row", "missing_field"]
    reasons += ["unparsable_date"] * bool(weakness.date) + ["negative_price"] * bool(weakness.price)
    reasons += ["unknown_item"] * bool(weakness.item)
    each = max(1, round(frame.height * share / len(reasons)))
    parts, places = [frame], [np.arange(frame.height, dtype=np.float64)]
    marks = [np.full(frame.height, "", dtype=object)]
    for reason in reasons:
        rows = _candidates(frame, weakness, reason, each, rng)
        parts.append(_damage(frame[rows], weakness, reason, f"{tag}{reason[:2]}", rng))
        # Anywhere in the file, but a duplicate comes after its original.
        places.append(rows + 0.5 + rng.random(rows.size) * (frame.height - rows))
        if reason != "duplicate":
            places[-1] = rng.random(rows.size) * frame.height - 0.5
        marks.append(np.full(rows.size, reason, dtype=object))
    order = np.argsort(np.concatenate(places), kind="stable")
    mark = np.concatenate(marks)[order]
    bad = np.flatnonzero(mark != "")
    return pl.concat(parts)[order], _bad((bad + 1).tolist(), mark[bad].tolist())


def _bad(rows: list[int], reasons: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"row": rows, "reason": reasons}, schema={"row": pl.Int64, "reason": pl.String})


def _candidates(
    frame: pl.DataFrame, weakness: Weakness, reason: str, num: int, rng: np.random.Generator
) -> np.ndarray:
    column = {"negative_price": weakness.price, "unknown_item": weakness.item}.get(reason, weakness.fresh)
    fitting = pl.col(column).is_not_null()
    if reason == "negative_price" and weakness.event:
        fitting &= pl.col(weakness.event) != "refund"
    fits = np.flatnonzero(frame.select(fitting).to_series().to_numpy())
    return np.sort(rng.choice(fits, size=min(num, fits.size), replace=False))


def _damage(
    rows: pl.DataFrame, weakness: Weakness, reason: str, tag: str, rng: np.random.Generator
) -> pl.DataFrame:
    if reason == "duplicate":
        return rows
    w, num = weakness, rows.height
    fresh = pl.Series(w.fresh, [f"{v}{tag}{i}" for i, v in enumerate(rows[w.fresh])])
    rows = rows.with_columns(fresh)
    if reason == "broken_utf8":
        return rows.with_columns(pl.col(w.text).fill_null("") + BROKEN_UTF8)
    if reason == "malformed_row":
        marks = pl.Series([(EXTRA_COLUMN, CUT_LINE)[k % 2] for k in range(num)], dtype=pl.String)
        return rows.with_columns(pl.col(w.fresh) + marks)
    if reason == "missing_field":
        return rows.with_columns(pl.lit(None, dtype=rows.schema[w.required]).alias(w.required))
    if reason == "unparsable_date":
        return rows.with_columns(
            pl.Series(w.date, rng.choice(np.array(_DATES, dtype=object), num), dtype=pl.String)
        )
    if reason == "negative_price":
        return rows.with_columns(-pl.col(w.price).abs() - 0.01)
    return rows.with_columns(pl.Series(w.item, [f"X{k:05d}" for k in rng.integers(0, 99_999, num)]))
