"""Text columns to typed columns, and the rules that refuse a row, each with its name.

What is done to every row is written as Polars expressions, so that the engine of kernels/backend.py runs it,
on the CPU or the GPU; the few values that the usual form does not take are looked at one by one afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC as UTC_ZONE
from datetime import datetime
from typing import Any

import polars as pl

from training.data.chunks import REFUSED_SCHEMA, Chunk
from training.data.sources import Source
from training.data.tables import EVENT_TYPES, PURPOSES
from training.data.times import (
    UTC,
    DayMonthVotes,
    common_format,
    is_ambiguous,
    parse_times,
    time_expression,
)

MONEY = pl.Decimal(18, 4)
_MOST_MONEY = 1e11  # above it a float has no exact cents; no price of a shop has so many digits

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
    "allowed": pl.Boolean(),
}
IDS = (
    "source_id", "item_id", "order_id", "line_id", "session_id", "request_id", "message_id", "answer_id",
)  # fmt: skip
MAX_ID_BYTES = 512
# No shop has rows from outside; such a time is a clock that was never set, or a year misread.
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC_ZONE)
LATEST = datetime(2100, 1, 1, tzinfo=UTC_ZONE)
# A record of a person is worth keeping without these, so what cannot be read there becomes null.
_LENIENT = {"customers": {"birth_date", "registered_at"}}
_NEEDS_NO_ITEM = ("search", "message", "exposure")  # an exposure may be a mailing
_UNREAD = "unread "  # beside each field, until the rules are judged
_NOT_NEGATIVE = ("price", "cost")
_YES, _NO = ("true", "yes", "y", "1", "granted", "opt-in"), ("false", "no", "n", "0", "denied", "opt-out")


@dataclass(frozen=True)
class Cleaned:
    """Typed rows, which of them are broken (None: none is), and what is said of those (REFUSED_SCHEMA)."""

    rows: pl.DataFrame
    broken: pl.Series | None
    refused: pl.DataFrame


@dataclass
class Cleaner:
    """Cleans the chunks of one file.

    `engine` is what kernels/backend.py chose. `day_first` is how dates such as 03/04/2025 are read; `votes`
    says after the last chunk whether that was right: the whole file decides, not the rows that come first.
    """

    source: Source
    engine: Any
    day_first: bool | None = None
    votes: DayMonthVotes = field(default_factory=DayMonthVotes)
    num_ambiguous: int = 0

    def clean(self, chunk: Chunk) -> Cleaned:
        """Give a chunk's rows their types and find the first rule that each breaks.

        A derived source refuses none: what cannot be read is null.
        """
        texts = self._collect(self._texts(chunk))
        names = [n for n in texts.columns if n in TYPES]
        known = {n: self._format(texts[n]) for n in names if _is_time(n)}
        typed = self._collect(texts.lazy().with_columns(self._typed(n, known.get(n)) for n in names))
        typed = typed.with_columns(
            column for n in names if (column := self._reread(n, texts[n], typed[n])) is not None
        )
        if self.source.derived:
            return Cleaned(typed, None, pl.DataFrame(schema=REFUSED_SCHEMA))
        unread = _unread(texts, typed)
        rules = _rules(self.source, typed.columns, [flag.name for flag in unread], chunk.plain)
        events = _event(self.source, typed.columns) if self.source.kind in ("orders", "events") else []
        amounts = [pl.col("quantity").abs()] if events and "quantity" in names else []
        fault = pl.coalesce(
            *(pl.when(bad).then(pl.lit(i, dtype=pl.UInt8)) for i, (bad, _, _) in enumerate(rules)),
            pl.lit(None, dtype=pl.UInt8),
        )
        rows = typed.lazy().with_columns(*unread, *events)
        rows = rows.with_columns(fault.alias("fault"), *amounts)
        return _judged(self._collect(rows), chunk, rules)

    def _collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        return rows.collect(engine=self.engine)

    def _texts(self, chunk: Chunk) -> pl.LazyFrame:
        """Fields without the white space around them, constants that have types, values by our names."""
        rows = chunk.rows.lazy()
        if not chunk.tidy:
            rows = rows.with_columns(stripped(n) for n in self.source.columns)
        constants = {k: v for k, v in self.source.constants.items() if is_stored(k)}
        rows = rows.with_columns(pl.lit(v).alias(k) for k, v in constants.items())
        known = set(self.source.columns) | set(constants)
        return rows.with_columns(
            _replaced(n, mapping) for n, mapping in self.source.values.items() if n in known
        )

    def _format(self, texts: pl.Series) -> str | None:
        if self.source.timestamp_format and texts.name == "timestamp":
            return self.source.timestamp_format
        fmt = common_format(texts, self.day_first is not False)
        if fmt is not None and is_ambiguous(fmt):
            self._vote(texts)
            fmt = common_format(texts, self.day_first is not False)
        return fmt

    def _vote(self, texts: pl.Series) -> None:
        self.votes.count(texts)
        self.num_ambiguous += 1
        if self.day_first is None:
            self.day_first = self.votes.is_day_first

    def _typed(self, name: str, fmt: str | None) -> pl.Expr:
        text, dtype, factor = pl.col(name), TYPES[name], self.source.scale.get(name)
        if _is_time(name):
            zone = self.source.timezone if dtype == UTC else "UTC"
            time = time_expression(text, fmt, zone) if fmt else pl.lit(None, dtype=UTC)
            return (time if dtype == UTC else time.dt.date()).alias(name)
        if dtype == pl.Int64 or dtype == pl.Int32:
            return text.cast(dtype, strict=False)
        if dtype == pl.Boolean:
            lower, words = text.str.to_lowercase(), {**dict.fromkeys(_YES, True), **dict.fromkeys(_NO, False)}
            return lower.replace_strict(words, default=None, return_dtype=pl.Boolean).alias(name)
        numbers = text.cast(pl.Float64, strict=False) * (1.0 if factor is None else factor)
        if dtype == MONEY:  # through a float, because cuDF reads no decimals; exact far beyond any price
            return pl.when(numbers.abs() < _MOST_MONEY).then(numbers).round(4).cast(MONEY).alias(name)
        return pl.when(numbers.is_finite()).then(numbers).cast(dtype).alias(name)

    def _reread(self, name: str, texts: pl.Series, typed: pl.Series) -> pl.Series | None:
        """The column with what its usual form did not take, where another form does."""
        left = typed.is_null() & texts.is_not_null()
        if not left.any() or name in self.source.scale:
            return None
        others = texts.filter(left)
        if typed.dtype == MONEY or typed.dtype.is_float():
            return typed.scatter(left.arg_true(), _written_amounts(others).cast(typed.dtype, strict=False))
        if _is_time(name):
            if self.source.timestamp_format and name == "timestamp":
                return None
            self._vote(others)
            zone = self.source.timezone if typed.dtype == UTC else "UTC"
            read = parse_times(others, zone, day_first=self.day_first is not False)
            read = read.dt.date() if typed.dtype == pl.Date else read
        else:  # 2.0 is a whole number that some program wrote as a fraction
            numbers = others.cast(pl.Float64, strict=False)
            read = numbers.set(numbers != numbers.round(), None).cast(typed.dtype, strict=False)
        return typed.scatter(left.arg_true(), read)


def is_stored(name: str) -> bool:
    """Whether a constant is written beside each row: others are put back when rows are read again."""
    return name in TYPES or name in ("event", "source_id")


def _is_time(name: str) -> bool:
    return TYPES[name] == UTC or TYPES[name] == pl.Date


def _written_amounts(texts: pl.Series) -> pl.Series:
    """Amounts with a currency sign, a decimal comma or separated thousands; 1,234 could be both, is none."""
    bare = texts.str.replace_all(r"[\s$€£¥\u00a0]|^[A-Z]{3}|[A-Z]{3}$", "")
    comma = bare.str.contains(r"^-?\d{1,3}(\.\d{3})*,(\d{1,2}|\d{4,})$|^-?\d+,(\d{1,2}|\d{4,})$")
    point = bare.str.contains(r"^-?\d{1,3}(,\d{3})*\.\d+$|^-?\d{1,3}(,\d{3}){2,}$|^-?\d+$")
    of_comma = bare.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    read = bare.str.replace_all(",", "", literal=True).zip_with(point, of_comma)
    return read.set(~(comma | point), None)


def stripped(name: str) -> pl.Expr:
    """A field of text without the white space around it; null where nothing is left, or a database's null."""
    text = pl.col(name).str.strip_chars()
    return pl.when((text != "") & (text != "\\N")).then(text).alias(name)


def _replaced(name: str, mapping: dict[str, str]) -> pl.Expr:
    """The value by our name; comparing with each name is faster than looking it up while names are few."""
    text = pl.col(name)
    if len(mapping) > 12:
        return text.replace(mapping)
    chosen: Any = pl
    for raw, ours in mapping.items():
        chosen = chosen.when(text == raw).then(pl.lit(ours))
    return (chosen.otherwise(text) if mapping else text).alias(name)


def _unread(texts: pl.DataFrame, typed: pl.DataFrame) -> list[pl.Series]:
    """For each typed column with values that could not be read, which they are."""
    names = [n for n in typed.columns if n in TYPES and typed[n].null_count() > texts[n].null_count()]
    return [(typed[n].is_null() & texts[n].is_not_null()).alias(_UNREAD + n) for n in names]


def _event(source: Source, columns: list[str]) -> list[pl.Expr]:
    """The event's type, and where it is none; cancelled orders and negative quantities are returns."""
    event, unknown = pl.lit("purchase"), pl.lit(False)
    if "event" in columns:
        said = pl.col("event").str.to_lowercase()
        known = said.is_in(list(EVENT_TYPES))
        event, unknown = pl.when(known).then(said), said.is_not_null() & ~known
    sent_back = pl.lit(False)
    if "quantity" in columns:
        sent_back = pl.col("quantity") < 0
    if source.cancelled_order_prefix and "order_id" in columns:
        sent_back = sent_back | pl.col("order_id").str.starts_with(source.cancelled_order_prefix)
    returned = pl.lit("return")
    event = pl.when(sent_back & (event == "purchase")).then(returned).otherwise(event)
    return [event.alias("event"), unknown.alias(_UNREAD + "event")]


def _rules(
    source: Source, columns: list[str], unread: list[str], plain: bool
) -> list[tuple[pl.Expr, str, str]]:
    """Condition, field and reason of every rule, in the order in which a row is judged."""
    rules: list[tuple[pl.Expr, str, str]] = []
    for name in (flag.removeprefix(_UNREAD) for flag in unread):
        if name not in _LENIENT.get(source.kind, ()):
            reason = "unparsable_date" if _is_time(name) else "bad_value"
            rules.append((pl.col(_UNREAD + name), name, reason))
    for name in (n for n in source.needs if n not in source.constants):
        known = pl.lit(False) if name not in columns else pl.col(name).is_not_null()
        rules.append(
            (~(known | pl.col(_UNREAD + name)) if name == "event" else ~known, name, "missing_field")
        )
    if source.kind == "events":
        needs_item = pl.col("item_id").is_null() if "item_id" in columns else pl.lit(True)
        exempt = pl.col("event").is_in(list(_NEEDS_NO_ITEM))
        rules.append((needs_item & ~exempt, "item_id", "missing_field"))
    if source.kind in ("events", "orders"):
        rules.append((pl.col(_UNREAD + "event"), "event", "bad_value"))
    if source.kind == "consents" and "purpose" in columns:
        rules.append((~pl.col("purpose").is_in(PURPOSES), "purpose", "bad_value"))
    rules += [(pl.col(n) < 0, n, "negative_price") for n in _NOT_NEGATIVE if n in columns]
    if "timestamp" in columns:
        impossible = (pl.col("timestamp") < EARLIEST) | (pl.col("timestamp") >= LATEST)
        rules.append((impossible, "timestamp", "impossible_time"))
    for name in (n for n in IDS if n in source.columns):
        rules.append((pl.col(name).str.len_bytes() > MAX_ID_BYTES, name, "unusable_id"))
        if not plain:
            rules.append((pl.col(name).str.contains(r"[\x00-\x1f\x7f]"), name, "unusable_id"))
    return rules


def _judged(rows: pl.DataFrame, chunk: Chunk, rules: list[tuple[pl.Expr, str, str]]) -> Cleaned:
    fault = rows["fault"]
    rows = rows.select(n for n in rows.columns if n != "fault" and not n.startswith(_UNREAD))
    if fault.null_count() == fault.len():
        return Cleaned(rows, None, pl.DataFrame(schema=REFUSED_SCHEMA))
    broken = fault.is_not_null()
    bad = rows["row"].filter(broken)
    refused = pl.DataFrame(
        {
            "row": bad,
            "field": [rules[i][1] for i in fault.drop_nulls()],
            "reason": [rules[i][2] for i in fault.drop_nulls()],
            "raw": [chunk.raw(row) for row in bad],
            "source_id": rows["source_id"].filter(broken)
            if "source_id" in rows.columns
            else [None] * len(bad),
        },
        schema=REFUSED_SCHEMA,
    )
    return Cleaned(rows, broken, refused)
