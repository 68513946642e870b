"""Interprets order lines and events by their values: prices, statuses, currencies, repetitions."""

from __future__ import annotations

import re
from dataclasses import replace

import polars as pl

from shopsight.training.data.cleaning.amounts import bare_numbers
from shopsight.training.data.cleaning.written_currency import currency_words
from shopsight.training.data.describing.aliases import plain_name, status_of
from shopsight.training.data.describing.column_names import currency_in
from shopsight.training.data.describing.order_amounts import amounts_of_orders, equal, mostly, numbers_of
from shopsight.training.data.describing.proposals import Proposal, times_understood
from shopsight.training.data.money import one_currency

NO_CURRENCY_NAMED = 'no column names a currency: which is it? write currency = "…" under constants'
_FROM_THE_FIRST_LINE = ("source_id", "timestamp", "currency", "status", "cancelled_at")
_STEEP, _MOST = 0.3, 0.6  # of the slope of log money over log pieces; of the items that agree
_MOST_STATUSES = 60
_ALSO_PLACES = ("state", "estado", "stato")  # may be of an address
# Names of columns that can only be the price of one piece.
_OF_ONE = re.compile("unit|einzel|stück|stuck|piece|per item|单价|単価|jednostk|styck|stk")


def lines_understood(proposal: Proposal) -> Proposal:
    """Order lines and events by their values: unit price or total, statuses, first lines, duplicates."""
    columns, sample, flags = dict(proposal.columns), proposal.sample, list(proposal.flags)
    questions, values = list(proposal.questions), dict(proposal.values)
    decisive: list[str] = []  # questions without whose answers the totals are wrong
    amounts_of_orders(columns, sample, decisive)
    _keep_price_or_amount(columns, sample, decisive)
    columns.pop("order_postage", None)
    if proposal.kind == "orders" and not {"price", "amount"} & set(columns):
        decisive.append(
            "no column names the price or the amount of a line, so there is no revenue; map price (of one "
            "piece) or amount (of the line)"
        )
    _read_statuses(columns, sample, values, decisive)
    if "cancelled_at" in columns and times_understood(sample["cancelled_at"]) < 1:
        columns.pop("cancelled_at")
    carried = _carried(columns, sample)
    if carried:
        flags.append(f"carry_down = {carried}".replace("'", '"'))
    if "line_id" not in columns:
        again = sample.height - sample.select("hi", "lo").n_unique()
        if again:
            flags.append("# keep_duplicates = true  # see the question")
            decisive.append(
                f"{again:,} of {sample.height:,} rows are the same as another: were they sold again? then "
                "keep_duplicates = true keeps them, else each counts once"
            )
    if (again := _repeated_lines(sample)) > 0:
        flags.append("# orders_repeat = true  # see the question")
        questions.append(
            f"{again:,} of {sample.height:,} rows tell a line of an order once more, at a later time: is it "
            "the same order, as of a page that was loaded again? then orders_repeat = true counts it once"
        )
    joined = proposal.joined
    if "source_id" not in columns and not (joined is not None and "source_id" in joined.columns):
        questions.append(
            "no column names the customer, so nobody is known to have bought anything; map source_id to the "
            "customer's number or mail"
        )
    if proposal.constants.get("item_id"):
        questions.append(
            'no column names an item, so each order is one line of the item "order": its money is right, but '
            "nothing can be recommended; export the order lines for that"
        )
    if joined is not None:
        _read_statuses(joined.columns, joined.sample, values, decisive)
    constants = dict(proposal.constants)
    if {"price", "amount"} & set(columns) and not (
        "currency" in columns or (joined is not None and "currency" in joined.columns)
    ):
        _currency_asked(columns, sample, constants, decisive)
    unused = [c for c in (*proposal.columns.values(), *proposal.unused) if c not in columns.values()]
    return replace(
        proposal, columns=columns, constants=constants, unused=list(dict.fromkeys(unused)), values=values,
        flags=flags, questions=[*decisive, *questions], is_open=bool(decisive) or proposal.is_open,
    )  # fmt: skip


def _read_statuses(
    columns: dict[str, str], sample: pl.DataFrame, values: dict[str, dict[str, str]], questions: list[str]
) -> None:
    """Read what the values of a status column mean; a column without a known value is left out."""
    if "status" not in columns:
        return
    words = _statuses(sample["status"])
    if not words:
        questions += _unknown_statuses(columns.pop("status"), sample["status"])
        return
    values["status"] = words
    unknown = sorted(value for value in _distinct(sample["status"]) if value not in words)
    questions += [f"what does the status {value!r} mean?" for value in unknown]


def _currency_asked(
    columns: dict[str, str], sample: pl.DataFrame, constants: dict[str, str], questions: list[str]
) -> None:
    """The one currency that the amounts or the names of their columns say; what they leave open is asked.

    Amounts of several currencies, each with its own sign, need no answer: the sign is the row's currency.
    """
    money = [name for name in ("price", "amount") if name in columns]
    words = pl.concat([currency_words(sample[name]) for name in money])
    numbers = pl.concat([bare_numbers(sample[name]) for name in money])
    said = sorted({code for word in words.drop_nulls().unique() if (code := one_currency([word]))})
    bare = bool((words.is_null() & numbers.is_not_null()).any())
    if not said:
        said = sorted({code for name in money for code in currency_in(columns[name])})
    shared = [code for code in said if len(code) < 3]
    if len(said) == 1 and not shared:
        constants["currency"] = said[0]
    elif len(said) > 1 and bare:
        questions.append(
            f"amounts are written in {' and '.join(said)}, and some without a sign: which currency are those "
            'in? write currency = "…" under constants'
        )
    elif shared or not said:
        several = f"; {' and '.join(shared)} is a sign of several" if shared else ""
        questions.append(NO_CURRENCY_NAMED + several)


def _repeated_lines(sample: pl.DataFrame) -> int:
    """How many rows have the order, item, quantity and price of an earlier row, at another time."""
    if not {"order_id", "item_id", "timestamp"} <= set(sample.columns):
        return 0
    line = ["source_id", "order_id", "line_id", "item_id", "event", "quantity", "price", "amount"]
    key = [name for name in line if name in sample.columns]
    told = [pl.col(name).str.strip_chars() != "" for name in ("order_id", "timestamp")]
    lines = sample.filter(told).group_by(key)
    return int((lines.agg(pl.col("timestamp").n_unique())["timestamp"] - 1).sum())


def _keep_price_or_amount(columns: dict[str, str], sample: pl.DataFrame, questions: list[str]) -> None:
    """Keep the one that is what its name says; a single column is tried by its items' quantities."""
    if "quantity" not in columns or not {"price", "amount"} & set(columns):
        return
    numbers = numbers_of(columns, sample)
    pieces = numbers["quantity"].abs()
    if {"price", "amount"} <= set(columns):
        price, amount = numbers["price"], numbers["amount"]
        many = (pieces > 1) & (price != 0)
        same = (equal(price * pieces, amount)).filter(many).mean()
        if "order_postage" in numbers and mostly(equal(price * pieces + numbers["order_postage"], amount)):
            same = 1.0  # the amount has the postage inside
        # A price that already is the total, or one that the total does not follow from.
        columns.pop("price" if isinstance(same, float) and same < 0.5 else "amount")
        return
    name = "price" if "price" in columns else "amount"
    kind = _unit_or_total(sample["item_id"] if "item_id" in columns else None, pieces, numbers[name])
    if kind is not None and kind != name:
        columns[kind] = columns.pop(name)
    if (
        kind is None
        and (pieces > 1).any()
        and not (name == "price" and _OF_ONE.search(columns[name].lower()))
    ):
        meant = "of one piece" if name == "price" else "of the whole line"
        questions.append(
            f'"{columns[name]}" is read as {name}, {meant}; if it is not, call it '
            f"{'amount' if name == 'price' else 'price'}"
        )


def _unit_or_total(items: pl.Series | None, pieces: pl.Series, money: pl.Series) -> str | None:
    """Whether an item's money stays the same ("price") or grows with its pieces ("amount")."""
    if items is None:
        return None
    frame = pl.DataFrame({"item": items, "q": pieces, "m": money}).filter(
        (pl.col("q") > 0) & (pl.col("m") > 0)
    )
    few = frame.sort("q").group_by("item", maintain_order=True).agg(
        pl.col("q").first().alias("q0"), pl.col("m").first().alias("m0"),
        pl.col("q").last().alias("q1"), pl.col("m").last().alias("m1"),
    ).filter(pl.col("q1") > pl.col("q0"))  # fmt: skip
    if few.is_empty():
        return None
    slope = (pl.col("m1") / pl.col("m0")).log() / (pl.col("q1") / pl.col("q0")).log()
    shares = few.select((slope.abs() < _STEEP).mean().alias("same"), ((slope - 1).abs() < _STEEP).mean())
    same, grows = shares.row(0)
    return "price" if same > _MOST else "amount" if grows > _MOST else None


def _distinct(texts: pl.Series) -> list[str]:
    return [str(value) for value in texts.drop_nulls().str.strip_chars().unique().to_list() if value]


def _statuses(texts: pl.Series) -> dict[str, str]:
    """What the values of a status column mean, if at least half of them are known words for it."""
    distinct = _distinct(texts)
    known = {value: status for value in sorted(distinct) if (status := status_of(value))}
    return known if len(known) * 2 >= len(distinct) > 0 and len(distinct) <= _MOST_STATUSES else {}


def _unknown_statuses(column: str, texts: pl.Series) -> list[str]:
    """A question where a column is called a status and none of its few values is known."""
    distinct = sorted(_distinct(texts))
    if not 0 < len(distinct) <= _MOST_STATUSES or plain_name(column) in _ALSO_PLACES:
        return []
    told = ", ".join(map(repr, distinct[:5])) + ", …" * (len(distinct) > 5)
    return [
        f'is "{column}" the status of the order? its values {told} are not known, so all rows are sales; map '
        "status and say under [source.values.status] which of them are no sale"
    ]


def _share(which: pl.Series) -> float:
    return int(which.sum()) / max(which.len(), 1)


def _carried(columns: dict[str, str], sample: pl.DataFrame) -> list[str]:
    """Fields that are filled on the first lines of orders and blank on most of their further lines."""
    if "order_id" not in columns:
        return []
    further = sample.select((pl.col("order_id") == pl.col("order_id").shift()).fill_null(False)).to_series()
    if not further.any():
        return []
    carried = []
    for name in (n for n in _FROM_THE_FIRST_LINE if n in columns):
        blank = sample[name].is_null() | (sample[name].str.strip_chars() == "")
        if _share(blank.filter(further)) > 0.5 and _share(blank.filter(~further)) < 0.5:
            carried.append(name)
    return carried
