"""Converts text columns to typed columns, and applies the named rules that refuse a row.

Operations on every row are Polars expressions, which the engine of kernels/backend.py runs on the CPU or GPU.
The few values that the usual format does not parse are handled one by one afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC as UTC_ZONE
from datetime import datetime
from typing import Any

import polars as pl

from shopsight.training.data.cleaning import order_lines
from shopsight.training.data.cleaning.conventions import Convention, Evidence
from shopsight.training.data.cleaning.order_lines import Rule
from shopsight.training.data.cleaning.typed_columns import ColumnReader
from shopsight.training.data.cleaning.written_currency import row_currencies
from shopsight.training.data.fields import GUARDED, IDS, JOINED, TYPES, is_stored, is_time
from shopsight.training.data.money import currency_code
from shopsight.training.data.reading.chunks import REFUSED_SCHEMA, Chunk
from shopsight.training.data.sources.source import Source
from shopsight.training.data.tables import PURPOSES

MAX_ID_BYTES = 512
# A time outside is from a clock that was never set, or a misread year.
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC_ZONE)
LATEST = datetime(2100, 1, 1, tzinfo=UTC_ZONE)
# A record of a person is worth keeping without these, so what cannot be read there becomes null.
_LENIENT = {"customers": {"birth_date", "registered_at"}}
_UNREAD, _SKIPPED, _TORN = "unread ", "skipped ", "torn "  # beside each field, until the rules are judged
_NOT_NEGATIVE = ("price", "cost")


@dataclass(frozen=True)
class Cleaned:
    """Typed rows, which of them are refused (None: none), and the refusals (REFUSED_SCHEMA)."""

    rows: pl.DataFrame
    broken: pl.Series | None
    refused: pl.DataFrame


@dataclass
class Cleaner:
    """Cleans the chunks of one file.

    `engine` is the choice of kernels/backend.py. `convention` decides how 03/04/2025 and 1.000 are read.
    After the last chunk, `evidence` holds the evidence in the file's values.
    """

    source: Source
    engine: Any
    convention: Convention = field(default_factory=Convention)
    evidence: Evidence = field(default_factory=Evidence)
    _above: pl.DataFrame | None = None  # the last row of the chunk before, for fields that carry down

    def clean(self, chunk: Chunk) -> Cleaned:
        """Convert a chunk's rows to typed columns and find the first rule that each breaks.

        A derived source refuses no row: unreadable values become null.
        """
        texts = self._texts(chunk)
        reader = ColumnReader(self.source, self.convention, self.evidence)
        names = [n for n in texts.columns if n in TYPES]
        formats = reader.formats(texts, names)
        typed = self._collect(texts.lazy().with_columns(reader.typed(n, formats.get(n)) for n in names))
        typed, torn = self._with_currency(texts, typed)
        typed = typed.with_columns(reader.reread(n, texts, typed[n], formats.get(n)) for n in names)
        numbers = [n for n in names if typed[n].dtype.is_float()]
        typed = self._collect(typed.lazy().with_columns(reader.finished(n) for n in numbers))
        if self.source.derived:
            return Cleaned(typed, None, pl.DataFrame(schema=REFUSED_SCHEMA))
        unread = _unread(texts, typed)
        unread += [] if torn is None else [torn.alias(_TORN)]
        unread += [
            reader.skipped_hours(n, texts[n], typed[n]).alias(_SKIPPED + n)
            for n in names
            if is_time(n) and _UNREAD + n in {flag.name for flag in unread}
        ]
        is_line = self.source.kind in ("orders", "events")
        meanings = order_lines.meaning(self.source, typed.columns) if is_line else []
        amounts = order_lines.amounts(self.source, typed.columns) if is_line else []
        rules = _rules(self.source, typed.columns, [flag.name for flag in unread], chunk.plain)
        fault = pl.coalesce(
            *(pl.when(bad).then(pl.lit(i, dtype=pl.UInt8)) for i, (bad, _, _) in enumerate(rules)),
            pl.lit(None, dtype=pl.UInt8),
        )
        rows = typed.lazy().with_columns(*unread, *meanings)
        rows = rows.with_columns(fault.alias("fault"), *amounts)
        return _judged(self._collect(rows), chunk, rules)

    def _with_currency(
        self, texts: pl.DataFrame, typed: pl.DataFrame
    ) -> tuple[pl.DataFrame, pl.Series | None]:
        """Rows with their currency, and which of them name two; before written amounts are read."""
        if not self.source.tells_currency:
            return typed, None
        found = row_currencies(texts, typed, self.source.constants.get("currency"))
        return typed.with_columns(found.codes), found.contradicted

    def _collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        return rows.collect(engine=self.engine)

    def _texts(self, chunk: Chunk) -> pl.DataFrame:
        """Fields without the white space around them, one of several columns, our values, constants."""
        rows, source = chunk.rows.lazy(), self.source
        if not chunk.tidy:
            rows = rows.with_columns(stripped(n) for n in source.columns)
        for name in source.fields:
            if more := source.more_columns(name):
                joined = pl.concat_str(name, *more, separator=" ", ignore_nulls=True)
                joined = pl.when(joined != "").then(joined) if name in JOINED else pl.coalesce(name, *more)
                rows = rows.with_columns(joined.alias(name)).drop(more)
        texts = self._carried_down(self._collect(rows))
        texts = texts.with_columns(_unguarded(texts[n]) for n in source.fields if n in GUARDED)
        if "currency" in source.columns:
            texts = texts.with_columns(_currencies(texts["currency"]))
        mapped = {n: m for n, m in source.values.items() if n in source.columns and n != "status"}
        texts = texts.with_columns(_replaced(n, mapping) for n, mapping in mapped.items())
        return texts.with_columns(
            pl.col(k).fill_null(v) if k in source.columns else _replaced_constant(source, k, v)
            for k, v in source.constants.items()
            if k != "currency" and (k in source.columns or is_stored(k))
        )

    def _carried_down(self, texts: pl.DataFrame) -> pl.DataFrame:
        """Give the further lines of an order what only its first line says."""
        names = self.source.carry_down
        if not names:
            return texts
        rows = texts if self._above is None else pl.concat([self._above, texts])
        order = pl.col("order_id")
        if "order_id" in names:
            rows = rows.with_columns(order.forward_fill())
        run = rows.select(order.rle_id().alias("run"))["run"]
        rows = rows.with_columns(
            pl.when(order.is_not_null())
            .then(pl.col(n).forward_fill().over(run))
            .otherwise(pl.col(n))
            .alias(n)
            for n in names
            if n != "order_id"
        )
        rows, self._above = rows.tail(texts.height), rows.tail(1)
        return rows


def stripped(name: str) -> pl.Expr:
    """A field of text without the white space around it; null where nothing is left, or a database's null."""
    text = pl.col(name).str.replace(r'^="(.*)"$', "$1").str.strip_chars()  # ="007" keeps zeros in Excel
    return pl.when((text != "") & (text != "\\N")).then(text).alias(name)


def _unguarded(texts: pl.Series) -> pl.Series:
    """Ids and numbers without the apostrophe that keeps them text in Excel."""
    guarded = texts.str.contains(r"^'([\d+].*)?$").fill_null(False)
    if not guarded.any():
        return texts
    bare = texts.str.slice(1).zip_with(guarded, texts)
    return bare.set(bare == "", None)


def _currencies(texts: pl.Series) -> pl.Series:
    """Currencies by their codes."""
    known = {text: currency_code(text) for text in texts.drop_nulls().unique()}
    return texts.replace({text: code for text, code in known.items() if text != code})


def _replaced_constant(source: Source, name: str, value: str) -> pl.Expr:
    return pl.lit(source.values.get(name, {}).get(value, value)).alias(name)


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


def _rules(source: Source, columns: list[str], unread: list[str], plain: bool) -> list[Rule]:
    """Condition, field and reason of every rule, in the order in which a row is judged."""
    is_line = source.kind in ("orders", "events")
    rules: list[Rule] = order_lines.first_rules(columns) if is_line else []
    if _TORN in unread:
        rules.append((pl.col(_TORN), "currency", "two_currencies"))
    for flag in sorted((u for u in unread if u != _TORN), key=lambda flag: not flag.startswith(_SKIPPED)):
        name = flag.removeprefix(_UNREAD).removeprefix(_SKIPPED)
        if name not in _LENIENT.get(source.kind, ()):
            reason = "unparsable_date" if is_time(name) else "bad_value"
            reason = "skipped_hour" if flag.startswith(_SKIPPED) else reason
            rules.append((pl.col(flag), name, reason))
    for name in (n for n in source.needs if n not in source.constants):
        known = pl.lit(False) if name not in columns else pl.col(name).is_not_null()
        if name == "event" and is_line:
            known = known | pl.col(order_lines.UNKNOWN_EVENT)
        rules.append((~known, name, "missing_field"))
    if is_line:
        rules += order_lines.rules(source, columns)
    if source.kind == "consents" and "purpose" in columns:
        rules.append((~pl.col("purpose").is_in(PURPOSES), "purpose", "bad_value"))
    negative = [n for n in _NOT_NEGATIVE if n in columns and not (is_line and n == "price")]
    rules += [(pl.col(n) < 0, n, "negative_price") for n in negative]
    if "timestamp" in columns:
        impossible = (pl.col("timestamp") < EARLIEST) | (pl.col("timestamp") >= LATEST)
        rules.append((impossible, "timestamp", "impossible_time"))
    for name in (n for n in IDS if n in source.columns):
        rules.append((pl.col(name).str.len_bytes() > MAX_ID_BYTES, name, "unusable_id"))
        if not plain:
            rules.append((pl.col(name).str.contains(r"[\x00-\x1f\x7f]"), name, "unusable_id"))
    return rules


def _judged(rows: pl.DataFrame, chunk: Chunk, rules: list[Rule]) -> Cleaned:
    fault = rows["fault"]
    passing = ("fault", *order_lines.TRANSIENT)
    kept = [n for n in rows.columns if n not in passing and not n.startswith((_UNREAD, _SKIPPED, _TORN))]
    rows = rows.select(kept)
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
