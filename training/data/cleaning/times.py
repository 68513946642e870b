"""Parses written times to UTC: ISO 8601, other usual formats, Unix time; independent of the order of rows."""

from __future__ import annotations

import functools
import re
import zoneinfo
from dataclasses import dataclass
from datetime import UTC as UTC_ZONE
from datetime import datetime, timedelta

import polars as pl

UTC = pl.Datetime("us", "UTC")
_EPOCH_UNITS = (("s", 1e8, 1e11), ("ms", 1e11, 1e14), ("us", 1e14, 1e17), ("ns", 1e17, 1e20))
_DIGITS = r"^\d+(\.\d+)?$"
_SLASHED = r"^(\d{1,2})[/-](\d{1,2})[/-]\d{2,4}"
_HOURS = (" %H:%M", " %H:%M:%S", " %H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S")
_CLOCKS = ("", *_HOURS, *(f"{hours} %z" for hours in _HOURS))
_ISO = (
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%3fZ",
    "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f %#z", "%Y-%m-%d %H:%M:%S%.f UTC", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d",
    "%Y-%m-%dT%H:%M%#z", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%Y.%m.%d",
    "%Y-%m-%d %H:%M %#z", "%Y/%m/%d %H:%M:%S %z", "%Y/%m/%d %H:%M %z",
)  # fmt: skip
_WRITTEN = (
    *(
        date + clock
        for date in ("%d.%m.%Y", "%d.%m.%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y",
                     "%d-%b-%y", "%b-%d-%Y", "%b-%d-%y", "%m %d, %Y", "%a %b %d %Y")
        for clock in _CLOCKS
    ),
    "%a, %d %b %Y %H:%M:%S %z", "%a %b %d %H:%M:%S %z %Y", "%d/%b/%Y:%H:%M:%S %z",
)  # fmt: skip
_DAY_FIRST = tuple(
    date + clock for date in ("%d/%m/%Y", "%d/%m/%y", "%d-%m-%Y", "%d-%m-%y") for clock in _CLOCKS
)
_MONTH_FIRST = tuple(
    f.replace("%d", "%~").replace("%m", "%d").replace("%~", "%m") for f in _DAY_FIRST
)  # fmt: skip
# Names of offsets that mean one thing; CST, IST and the like are of several places.
_ZONES = {
    "PST": "-0800", "PDT": "-0700", "MST": "-0700", "MDT": "-0600", "CDT": "-0500", "EST": "-0500",
    "EDT": "-0400", "UTC": "+0000", "GMT": "+0000", "CET": "+0100", "CEST": "+0200", "EET": "+0200",
    "EEST": "+0300", "JST": "+0900", "AEST": "+1000", "AEDT": "+1100",
}  # fmt: skip
_PLACE = r"\d(?: [AP]M)? ([A-Z][A-Za-z_]+(?:/[A-Z][A-Za-z_-]+){1,2})$"  # as in 10:00 Europe/Berlin
_NAMED_ZONE = rf"\d(?: [AP]M)? ({'|'.join(_ZONES)})$"
_FIRST_YEAR = 1000
_FIRST_CLOCK_YEAR, _LAST_CLOCK_YEAR = 1990, 2099  # of which it is told where local times repeat
_SAMPLE = 500


@dataclass(frozen=True)
class DayMonthVotes:
    """How many dates can only be day first, only month first, or either; and one of each."""

    day_first: int
    month_first: int
    either_date: int
    examples: dict[str, str]

    @property
    def is_day_first(self) -> bool:
        """Return whether most dates are day first; true if all are ambiguous."""
        return self.day_first >= self.month_first


def count_date_votes(texts: pl.Series) -> DayMonthVotes:
    """Count which order of day and month dates such as 03/04/2025 show."""
    text = texts.drop_nulls().str.strip_chars().alias("t")
    slashed = text.to_frame().with_columns(text.str.extract_groups(_SLASHED).struct.unnest())
    first, second = (pl.col(name).cast(pl.Int32) for name in ("1", "2"))
    kinds = {
        "day_first": (first > 12) & (second <= 12),
        "month_first": (second > 12) & (first <= 12),
        "either_date": (first <= 12) & (second <= 12) & (first != second),
    }
    found = {kind: slashed.filter(is_kind)["t"] for kind, is_kind in kinds.items()}
    counts = {kind: values.len() for kind, values in found.items()}
    return DayMonthVotes(**counts, examples={kind: str(v[0]) for kind, v in found.items() if v.len()})


def parse_times(
    texts: pl.Series, timezone: str = "UTC", fmt: str | None = None, day_first: bool | None = None
) -> pl.Series:
    """Parse timestamps to UTC microseconds; texts without a known format become null.

    Accepts ISO 8601 with or without an offset, other usual formats, and Unix seconds to nanoseconds. Unless
    `day_first` is given, the majority of the texts decides between day first and month first. Naive times are
    in `timezone`; in the hour that autumn repeats, the earlier time is taken, and an hour that spring skips
    is invalid.
    """
    parsed = pl.Series(texts.name, [None], dtype=UTC).new_from_index(0, texts.len())
    if fmt:
        return _parsed(texts, fmt, timezone)
    if (places := texts.str.extract(_PLACE)).null_count() < texts.len():
        return _of_places(texts, places, timezone, day_first)
    texts = _with_offsets(texts)
    digits = texts.str.contains(_DIGITS).fill_null(False)
    if digits.any():
        parsed = parsed.scatter(digits.arg_true(), _from_digits(texts.filter(digits), timezone))
    if day_first is None:
        day_first = count_date_votes(texts.filter(~digits)).is_day_first
    for candidate in formats(texts.filter(~digits), day_first):
        left = parsed.is_null() & texts.is_not_null() & ~digits
        if not left.any():
            break
        part = _parsed(texts.filter(left), candidate, timezone)
        parsed = part if left.all() else parsed.scatter(left.arg_true(), part)
    return parsed


def _of_places(texts: pl.Series, places: pl.Series, timezone: str, day_first: bool | None) -> pl.Series:
    """Times that end in the name of a place of the time zone database, each by its own clock."""
    if day_first is None:
        day_first = count_date_votes(texts).is_day_first
    parsed = pl.Series(texts.name, [None], dtype=UTC).new_from_index(0, texts.len())
    bare = texts.str.replace(r" \S+/\S+$", "")
    for place in places.unique().to_list():
        rows = (places == place).fill_null(False) if place else places.is_null()
        if place is None or place in _known_places():
            some = (texts if place is None else bare).filter(rows)
            parsed = parsed.scatter(
                rows.arg_true(), parse_times(some, place or timezone, day_first=day_first)
            )
    return parsed


@functools.cache
def _known_places() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def _with_offsets(texts: pl.Series) -> pl.Series:
    """Times that end in the name of an offset, as in 10:00 PDT, with the offset itself."""
    names = texts.str.extract(_NAMED_ZONE)
    if names.null_count() == names.len():
        return texts
    bare = pl.col("t").str.replace(r" [A-Z]+$", " ") + pl.col("zone").replace(_ZONES)
    frame = pl.DataFrame({"t": texts, "zone": names})
    chosen = frame.select(pl.when(pl.col("zone").is_null()).then("t").otherwise(bare).alias(texts.name))
    return chosen.to_series()


def formats(texts: pl.Series, day_first: bool) -> list[str]:
    """The formats to try, those that fit a sample first, so that the common case parses each text once.

    No text fits two formats with different meanings, so the order does not change what is read.
    """
    known = (*_ISO, *_WRITTEN, *(_DAY_FIRST if day_first else _MONTH_FIRST))
    shapes = set(texts.drop_nulls().str.replace_all(r"\d+", "9").str.replace_all(r"\p{L}+", "a").unique())
    known = tuple(f for f in known if not shapes.isdisjoint(_shapes(f)))
    if len(known) < 2:
        return list(known)
    sample = _sample(texts)
    fits = _fits(sample, known)
    if sample.len() == texts.drop_nulls().len():  # nothing is left that another format could take
        known = tuple(f for f in known if fits[f])
    return sorted(known, key=lambda f: -fits[f])


def _sample(texts: pl.Series) -> pl.Series:
    texts = texts.drop_nulls()
    return texts.gather_every(max(1, texts.len() // _SAMPLE)).head(_SAMPLE)


@functools.cache
def _shapes(fmt: str) -> frozenset[str]:
    """How texts of a format look when every number is 9 and every word is a."""
    shapes = [re.sub(r"%[aAbBp]", "a", fmt)]
    for token, looks in (
        ("%.f", ("", ".9")),
        ("%#z", ("a", "+9", "-9", "+9:9", "-9:9")),
        ("%z", ("+9", "-9", "+9:9")),
    ):
        shapes = [shape.replace(token, look) for shape in shapes for look in looks]
    shapes = [re.sub(r"%\d?[A-Za-z]", "9", shape) for shape in shapes]
    return frozenset(re.sub(r"[A-Za-z]+", "a", shape) for shape in shapes)


def _fits(sample: pl.Series, candidates: tuple[str, ...]) -> dict[str, int]:
    times = [time_expression(pl.col("t"), f, "UTC").dt.year() >= _FIRST_YEAR for f in candidates]
    counts = sample.alias("t").to_frame().select(t.sum().alias(str(i)) for i, t in enumerate(times))
    return dict(zip(candidates, counts.row(0), strict=True))


def common_format(texts: pl.Series, day_first: bool) -> str | None:
    """The format that most of a sample has, or None where it has none of them (Unix time, say)."""
    sample = _sample(texts)
    best = next(iter(formats(sample, day_first)), None)
    return best if best and _parsed(sample, best, "UTC").is_not_null().any() else None


def is_ambiguous(fmt: str) -> bool:
    """Whether day and month could be meant the other way round."""
    return fmt in _DAY_FIRST or fmt in _MONTH_FIRST


def has_offset(fmt: str) -> bool:
    """Whether times of a format say themselves how far they are from UTC."""
    return "%z" in fmt or "%#z" in fmt or fmt.endswith(("Z", "UTC"))


def time_expression(text: pl.Expr, fmt: str, timezone: str) -> pl.Expr:
    """Times of one format as an expression; the cache is off because cuDF has none."""
    time = text.str.to_datetime(fmt, time_unit="us", strict=False, exact=True, cache=False)
    if "%z" in fmt or "%#z" in fmt:
        return time.dt.convert_time_zone("UTC")
    if timezone == "UTC" or has_offset(fmt):
        return time.dt.replace_time_zone("UTC")
    time = time.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
    return time.dt.convert_time_zone("UTC")


@functools.cache
def repeated_hours(timezone: str, year: int) -> tuple[tuple[datetime, datetime], ...]:
    """The spans of UTC in a year whose local times come again when clocks are set back."""
    zone, day = zoneinfo.ZoneInfo(timezone), datetime(year, 1, 1, tzinfo=UTC_ZONE)
    spans, before = [], day.astimezone(zone).utcoffset()
    while day.year == year:
        after = (day + timedelta(days=1)).astimezone(zone).utcoffset()
        if before is not None and after is not None and after < before:
            low, high = 0, 24 * 60
            while low < high:  # the first minute of the new offset
                middle = (low + high) // 2
                is_new = (day + timedelta(minutes=middle)).astimezone(zone).utcoffset() == after
                low, high = (low, middle) if is_new else (middle + 1, high)
            change = day + timedelta(minutes=low)
            spans.append((change - (before - after), change))
        day, before = day + timedelta(days=1), after
    return tuple(spans)


def in_repeated_hour(times: pl.Series, timezone: str) -> int:
    """How many of the times, as time_expression reads local ones, could be an hour later as well."""
    first, last = times.min(), times.max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        return 0
    years = range(max(first.year, _FIRST_CLOCK_YEAR), min(last.year, _LAST_CLOCK_YEAR) + 1)
    spans = [span for year in years for span in repeated_hours(timezone, year)]
    spans = [span for span in spans if span[1] > first and span[0] <= last]
    inside = pl.any_horizontal([pl.col("t").is_between(*span, closed="left") for span in spans] or [False])
    return int(times.alias("t").to_frame().select(inside.sum()).item())


def _parsed(texts: pl.Series, fmt: str, timezone: str) -> pl.Series:
    name = texts.name or "time"
    time = time_expression(pl.col(name), fmt, timezone).alias(name)
    parsed = texts.alias(name).to_frame().select(time).to_series()
    # A year of two digits read as one of four: another format means it.
    return parsed.set(parsed.dt.year() < _FIRST_YEAR, None).alias(texts.name)


def _from_digits(texts: pl.Series, timezone: str) -> pl.Series:
    """Digits alone: 8 are a date, 14 a date and a time, others Unix time by their size."""
    parsed = pl.Series(texts.name, [None], dtype=UTC).new_from_index(0, texts.len())
    lengths = texts.str.len_chars()
    for length, fmt in ((8, "%Y%m%d"), (14, "%Y%m%d%H%M%S")):
        fits = lengths == length
        if fits.any():
            parsed = parsed.scatter(fits.arg_true(), _parsed(texts.filter(fits), fmt, timezone))
    numbers = texts.set((lengths == 8) | (lengths == 14), None).cast(pl.Float64, strict=False)
    for unit, low, high in _EPOCH_UNITS:
        fits = ((numbers >= low) & (numbers < high)).fill_null(False)
        if fits.any():
            per_second = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}[unit]
            times = (numbers.filter(fits) * per_second).round().cast(pl.Int64).cast(UTC)
            parsed = parsed.scatter(fits.arg_true(), times)
    return parsed
