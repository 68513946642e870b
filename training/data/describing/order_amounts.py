"""Tells amounts of a whole order from those of a line: an order's stand on one line, or on all alike."""

from __future__ import annotations

import polars as pl

from shopsight.training.data.cleaning.amounts import bare_numbers, count_votes, read_numbers

_CLOSE = 0.02  # relative difference of two amounts that are the same but for rounding
_LEAST_ORDERS = 3  # of several lines, before an amount that repeats in all of them is told from a coincidence


def amounts_of_orders(columns: dict[str, str], sample: pl.DataFrame, questions: list[str]) -> None:
    """Map no amount of a whole order as one of a line; `columns` and `questions` are changed in place.

    A discount becomes `order_discount`. An amount is dropped where there is a price, else asked for.
    """
    if "order_id" not in columns:
        return
    further = sample.select((pl.col("order_id") == pl.col("order_id").shift()).fill_null(False)).to_series()
    if not further.any():
        return
    numbers = numbers_of(columns, sample)
    if "discount" in numbers and _on_the_first_line(numbers["discount"], further):
        columns.setdefault("order_discount", columns.pop("discount"))
    if "amount" not in numbers:
        return
    amount = numbers["amount"]
    if not (_on_the_first_line(amount, further) or _repeats(columns, sample, numbers)):
        return
    if "price" in columns:
        columns.pop("amount")
    else:
        questions.append(
            f'"{columns["amount"]}" is an amount of the whole order, not of a line; map the price (of one '
            "piece) or the amount of each line"
        )


def numbers_of(columns: dict[str, str], sample: pl.DataFrame) -> dict[str, pl.Series]:
    """The written numbers of a sample by field, float64, with the decimal sign that most of them have."""
    fields = ("quantity", "price", "amount", "discount", "order_postage")
    bare = {name: bare_numbers(sample[name]) for name in fields if name in columns}
    votes = [count_votes(texts) for texts in bare.values()]
    decimal = "," if sum(v.comma for v in votes) > sum(v.point for v in votes) else "."
    return {name: read_numbers(texts, decimal) for name, texts in bare.items()}


def equal(left: pl.Series, right: pl.Series) -> pl.Series:
    """Where two amounts are the same but for rounding."""
    return (left - right).abs() <= _CLOSE * right.abs()


def mostly(which: pl.Series) -> bool:
    """Whether more than half of the rows with a value are true."""
    share = which.mean()
    return isinstance(share, float) and share > 0.5


def _on_the_first_line(values: pl.Series, further: pl.Series) -> bool:
    return mostly(values.is_null().filter(further)) and not mostly(values.is_null().filter(~further))


def _repeats(columns: dict[str, str], sample: pl.DataFrame, numbers: dict[str, pl.Series]) -> bool:
    """Whether all lines of an order have one amount, though they are lines of several items or prices."""
    differ: list[str] = [name for name in ("price", "quantity") if name in numbers]
    frame = pl.DataFrame({"order": sample["order_id"], **{n: numbers[n] for n in ("amount", *differ)}})
    if "item_id" in columns:
        frame, differ = frame.with_columns(item=sample["item_id"]), [*differ, "item"]
    several = frame.group_by("order").agg(pl.len(), pl.all().n_unique()).filter(
        (pl.col("len") > 1) & pl.any_horizontal(pl.col(name) > 1 for name in differ)
    )  # fmt: skip
    if several.height < _LEAST_ORDERS:
        return False
    return mostly(several["amount"] == 1) and float((several["amount"] == 1).mean()) > 0.9  # type: ignore[arg-type]
