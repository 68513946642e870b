"""Converts text columns to typed columns under a source's convention, and collects evidence for it.

The usual format of a column is parsed by an expression, which the engine of kernels/backend.py runs. The few
values that it does not parse are handled one by one afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from shopsight.training.data.cleaning.amounts import AMBIGUOUS, bare_numbers, count_votes, read_numbers
from shopsight.training.data.cleaning.conventions import Convention, Evidence
from shopsight.training.data.cleaning.times import (
    UTC,
    common_format,
    count_date_votes,
    has_offset,
    in_repeated_hour,
    is_ambiguous,
    parse_times,
    time_expression,
)
from shopsight.training.data.fields import TYPES, is_number, is_time
from shopsight.training.data.sources.source import Source
from shopsight.training.data.tables import PRICE

_MOST_MONEY = 1e11  # above it a float has no exact cents; no price of a shop has so many digits
_YES, _NO = ("true", "yes", "y", "1", "granted", "opt-in"), ("false", "no", "n", "0", "denied", "opt-out")


@dataclass
class ColumnReader:
    """Reads the columns of one file's chunks; `evidence` grows with every chunk."""

    source: Source
    convention: Convention
    evidence: Evidence = field(default_factory=Evidence)

    def formats(self, texts: pl.DataFrame, names: list[str]) -> dict[str, str | None]:
        """The usual format of each time column of a chunk."""
        return {name: self._format(texts, name) for name in names if is_time(name)}

    def typed(self, name: str, fmt: str | None) -> pl.Expr:
        """The usual form of a column; numbers with decimals stay Float64 until `finished`."""
        text, dtype = pl.col(name), TYPES[name]
        if is_time(name):
            time = time_expression(text, fmt, self._zone(name)) if fmt else pl.lit(None, dtype=UTC)
            return (time if dtype == UTC else time.dt.date()).alias(name)
        if dtype == pl.Int32:
            return text.cast(dtype, strict=False)
        if dtype == pl.Boolean:
            lower, words = text.str.to_lowercase(), {**dict.fromkeys(_YES, True), **dict.fromkeys(_NO, False)}
            return lower.replace_strict(words, default=None, return_dtype=pl.Boolean).alias(name)
        return text.cast(pl.Float64, strict=False).alias(name)

    def reread(self, name: str, texts: pl.DataFrame, typed: pl.Series, fmt: str | None) -> pl.Series:
        """The column with what its usual form did not take, where another form does."""
        if is_number(name):
            typed = self._numbers(name, texts, typed)
        left = typed.is_null() & texts[name].is_not_null()
        if fmt and typed.dtype == UTC and self._is_local() and not (self.source.derived or has_offset(fmt)):
            self.evidence.repeated_hour += in_repeated_hour(typed, self.source.timezone)
        if not left.any():
            return typed
        others = texts[name].filter(left)
        if is_number(name):
            return typed.scatter(left.arg_true(), read_numbers(bare_numbers(others), self.convention.decimal))
        if typed.dtype.is_float():
            return typed.scatter(left.arg_true(), read_numbers(bare_numbers(others), "."))
        if is_time(name):
            if self.source.timestamp_format and name == "timestamp":
                return typed
            if not (fmt and is_ambiguous(fmt)):  # else all of the chunk have voted
                self._vote_on_dates(name, texts, left)
            read = parse_times(others, self._zone(name), day_first=self.convention.day_first)
            return typed.scatter(left.arg_true(), read.dt.date() if typed.dtype == pl.Date else read)
        if typed.dtype.is_integer():  # 2.0 is a whole number that some program wrote as a fraction
            numbers = others.cast(pl.Float64, strict=False)
            read = numbers.set(numbers != numbers.round(), None).cast(typed.dtype, strict=False)
            return typed.scatter(left.arg_true(), read)
        return typed

    def finished(self, name: str) -> pl.Expr:
        """Numbers scaled and of their type; what no shop can have is null."""
        dtype = TYPES[name]
        numbers = pl.col(name) * self.source.scale.get(name, 1.0)
        if not is_number(name):
            return pl.when(numbers.is_finite()).then(numbers).cast(dtype).alias(name)
        # Through a float, because cuDF reads no decimals; exact far beyond any price.
        digits = 8 if dtype == PRICE else 4
        return pl.when(numbers.abs() < _MOST_MONEY).then(numbers).round(digits).cast(dtype).alias(name)

    def skipped_hours(self, name: str, texts: pl.Series, typed: pl.Series) -> pl.Series:
        """Which unread times no local clock ever showed, because spring skips their hour."""
        left = typed.is_null() & texts.is_not_null()
        if not left.any() or not self._is_local() or TYPES[name] != UTC:
            return left & False
        fmt = self.source.timestamp_format if name == "timestamp" else None
        read = parse_times(texts.filter(left), "UTC", fmt, day_first=self.convention.day_first)
        return (left & False).scatter(left.arg_true(), read.is_not_null())

    def _zone(self, name: str) -> str:
        return self.source.timezone if TYPES[name] == UTC else "UTC"

    def _is_local(self) -> bool:
        return self.source.timezone != "UTC"

    def _format(self, texts: pl.DataFrame, name: str) -> str | None:
        if self.source.timestamp_format and name == "timestamp":
            return self.source.timestamp_format
        fmt = common_format(texts[name], self.convention.day_first)
        if fmt is not None and is_ambiguous(fmt):
            self._vote_on_dates(name, texts, texts[name].is_not_null())
        return fmt

    def _vote_on_dates(self, name: str, texts: pl.DataFrame, which: pl.Series) -> None:
        votes = count_date_votes(texts[name].filter(which))
        for kind, text in votes.examples.items():
            self.evidence.add(kind, getattr(votes, kind), self._example(name, texts, text))

    def _numbers(self, name: str, texts: pl.DataFrame, typed: pl.Series) -> pl.Series:
        """Count what written numbers say of the decimals, and correct "1.000" where points group."""
        dotted = texts[name].str.contains(".", literal=True) & typed.is_not_null()
        if dotted.any():
            some = texts[name].filter(dotted)
            either = some.str.contains(AMBIGUOUS)
            self._count(name, texts, "point", some.filter(~either))
            self._count(name, texts, "either_amount", some.filter(either))
            if self.convention.decimal == "," and either.any():
                at = dotted.arg_true().filter(either)
                typed = typed.scatter(at, (typed.gather(at) * 1000).round())
        others = texts[name].filter(typed.is_null() & texts[name].is_not_null())
        if others.len():
            votes = count_votes(bare_numbers(others))
            for kind, own in (("point", "point"), ("comma", "comma"), ("ambiguous", "either_amount")):
                bare = votes.examples.get(kind)
                if bare is not None:
                    self.evidence.add(own, getattr(votes, kind), (name, bare, self._row(name, texts, bare)))
        return typed

    def _count(self, name: str, texts: pl.DataFrame, kind: str, values: pl.Series) -> None:
        if values.len():
            self.evidence.add(kind, values.len(), self._example(name, texts, str(values[0])))

    def _example(self, name: str, texts: pl.DataFrame, text: str) -> tuple[str, str, int]:
        return name, text, self._row(name, texts, text)

    def _row(self, name: str, texts: pl.DataFrame, text: str) -> int:
        """The row of the first value that has a text in it."""
        at = texts[name].str.contains(text, literal=True).fill_null(False).arg_max()
        return int(texts["row"][at or 0])
