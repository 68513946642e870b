"""Person records of any number with known truth: several a person, with gaps, slips, moves and households."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

_RECORDS_A_PERSON = ((1, 0.55), (2, 0.25), (3, 0.12), (4, 0.05), (5, 0.03))
_MEAN_RECORDS = sum(num * share for num, share in _RECORDS_A_PERSON)
_NUM_GIVEN, _NUM_FAMILY, _NUM_CITIES, _NUM_STREETS = 3_000, 40_000, 4_000, 20_000
_MOVED_SHARE, _SWAPPED_SHARE = 0.06, 0.02
# Shares of records that miss a field, and of those written a second time that have a slip in it.
_MISSING = {"email": 0.35, "phone": 0.40, "birth_date": 0.15, "street": 0.10, "city": 0.05, "postcode": 0.08}
_SLIPS = {
    "given_name": 0.05, "family_name": 0.06, "email": 0.02, "phone": 0.02, "street": 0.08, "city": 0.04,
    "postcode": 0.03,
}  # fmt: skip
_OTHER_EMAIL, _OTHER_PHONE, _OTHER_BIRTH = 0.15, 0.10, 0.03
_FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)

_HOME = ("street", "city", "postcode", "state")
_STREET_KINDS = np.array(["street", "road", "avenue", "lane"])

Ints = NDArray[np.int64]
Places = tuple[NDArray[np.object_], NDArray[np.object_]]


def person_records(num: int, household_share: float = 0.0, seed: int = 0) -> tuple[pl.DataFrame, Ints]:
    """Return `num` account records (source, source_id, person fields, registered_at) and who each is [num].

    The way of Febrl (Christen, 2008): originals and corrupted copies, names and places drawn by Zipf's law.
    `household_share` of the people share family name, address and phone with another.
    """
    rng = np.random.default_rng(seed)
    places = _words(_NUM_CITIES, 3, rng), _words(_NUM_STREETS, 3, rng)
    people = _people(int(num / _MEAN_RECORDS) + 100, household_share, places, rng)
    numbers, shares = zip(*_RECORDS_A_PERSON, strict=True)
    person = np.repeat(np.arange(people.height), rng.choice(numbers, people.height, p=shares))
    person = np.sort(rng.permutation(person)[:num]) if person.size >= num else np.resize(person, num)
    copy = np.concatenate(([False], person[1:] == person[:-1]))
    records = _written(people[person], copy, places, rng)
    order = rng.permutation(num)
    ids = pl.Series("source_id", [f"A{i:09d}" for i in range(num)])
    when = pl.Series("registered_at", rng.integers(0, 365 * 86_400, num)).cast(pl.Int64)
    records = records[order].with_columns(
        pl.lit("shop").alias("source"),
        ids,
        (pl.lit(_FIRST_DAY).cast(pl.Datetime("us", "UTC")) + pl.duration(seconds=when)).alias(
            "registered_at"
        ),
    )
    return records, person[order]


def _people(num: int, household_share: float, places: Places, rng: np.random.Generator) -> pl.DataFrame:
    given, family = _words(_NUM_GIVEN, 2, rng), _words(_NUM_FAMILY, 3, rng)
    frame = pl.DataFrame(
        {
            "given_name": given[_zipf(_NUM_GIVEN, num, rng)],
            "family_name": family[_zipf(_NUM_FAMILY, num, rng)],
            "birth_date": _days(rng.integers(0, 65 * 365, num)),
            "phone": rng.integers(10**8, 10**9, num).astype(str),
        }
    )
    frame = frame.hstack(_homes(num, places, rng))
    with_another = np.arange(num) - ((rng.random(num) < household_share) & (np.arange(num) > 0))
    shared = frame.select("family_name", "phone", *_HOME)[with_another]
    return frame.with_columns(shared.iter_columns()).with_columns(_mails(num, rng))


def _homes(num: int, places: Places, rng: np.random.Generator) -> pl.DataFrame:
    cities, streets = places
    city = _zipf(_NUM_CITIES, num, rng)
    named, kinds = streets[rng.integers(0, _NUM_STREETS, num)], _STREET_KINDS[rng.integers(0, 4, num)]
    numbers = pl.Series(rng.integers(1, 200, num)).cast(pl.String)
    return pl.DataFrame(
        {
            "street": numbers + " " + pl.Series(named) + " " + pl.Series(kinds),
            "city": cities[city],
            "postcode": (10_000 + city * 20 + rng.integers(0, 6, num)).astype(str),
            "state": np.array([f"s{i}" for i in range(9)])[city % 9],
        }
    )


def _written(
    rows: pl.DataFrame, copy: NDArray[np.bool_], places: Places, rng: np.random.Generator
) -> pl.DataFrame:
    """Each record as somebody wrote it: copies moved, changed their mail, or had a slip of the finger."""
    num = rows.height

    def some(share: float) -> pl.Series:
        return pl.Series(copy & (rng.random(num) < share))

    moved, mails, elsewhere = some(_MOVED_SHARE), _mails(num, rng), _homes(num, places, rng)
    rows = rows.with_columns(
        *(pl.when(moved).then(elsewhere[name]).otherwise(name).alias(name) for name in _HOME),
        pl.when(some(_OTHER_EMAIL)).then(mails).otherwise("email").alias("email"),
        pl.when(some(_OTHER_PHONE)).then(pl.Series(rng.integers(10**8, 10**9, num)).cast(pl.String))
        .otherwise("phone").alias("phone"),
        pl.when(some(_OTHER_BIRTH)).then(_misread(rows["birth_date"], rng)).otherwise("birth_date")
        .alias("birth_date"),
    )  # fmt: skip
    swapped = some(_SWAPPED_SHARE)
    rows = rows.with_columns(
        pl.when(swapped).then("family_name").otherwise("given_name").alias("given_name"),
        pl.when(swapped).then("given_name").otherwise("family_name").alias("family_name"),
    )
    changed: list[Any] = [_slipped(rows[name], some(share), rng) for name, share in _SLIPS.items()]
    rows = rows.with_columns(changed)
    return rows.with_columns(
        pl.when(pl.Series(rng.random(num) >= share)).then(name).alias(name)
        for name, share in _MISSING.items()
    )


def _slipped(values: pl.Series, where: pl.Series, rng: np.random.Generator) -> pl.Series:
    """One letter doubled, dropped, replaced, or swapped with the next, where the mask says so."""
    rows = where.arg_true()
    words = values[rows].to_list()
    draws = rng.random((len(words), 3))
    kinds: tuple[Callable[[str, int, str], str], ...] = (
        lambda word, at, _: word[:at] + word[at] + word[at:],
        lambda word, at, _: word[:at] + word[at + 1 :],
        lambda word, at, letter: word[:at] + letter + word[at + 1 :],
        lambda word, at, _: word[:at] + word[at : at + 2][::-1] + word[at + 2 :],
    )
    for i, (kind, place, letter) in enumerate(draws.tolist()):
        letters = "0123456789" if words[i].isdigit() else "abcdeilnorstu"
        at = int(place * len(words[i]))
        words[i] = kinds[int(kind * 4)](words[i], at, letters[int(letter * len(letters))])
    return values.scatter(rows, words)


def _misread(days: pl.Series, rng: np.random.Generator) -> pl.Series:
    """Another day of the month, another month, or a year or ten beside the right one."""
    part, other = (pl.Series(rng.integers(0, high, days.len())) for high in (3, 28))
    date = pl.lit(days).dt
    day = pl.when(part == 0).then(other + 1).otherwise(date.day().clip(1, 28))
    month = pl.when(part == 1).then(other % 12 + 1).otherwise(date.month())
    year = date.year() + pl.when(part == 2).then(pl.when(other % 2 == 0).then(1).otherwise(-10)).otherwise(0)
    return pl.select(pl.date(year, month, day)).to_series()


def _mails(num: int, rng: np.random.Generator) -> pl.Series:
    """Addresses that say nothing of their owner's name."""
    hosts = np.array(["mail.example", "post.example", "inbox.example", "web.example"])[
        rng.integers(0, 4, num)
    ]
    local = pl.Series(rng.integers(36**5, 36**7, num)).cast(pl.String)
    return (
        pl.select(pl.concat_str(pl.lit("u"), local, pl.lit("@"), pl.Series(hosts))).to_series().alias("email")
    )


def _words(num: int, syllables: int, rng: np.random.Generator) -> NDArray[np.object_]:
    onsets = np.array([*"bcdfghjklmnprstvwz", "br", "ch", "kr", "st", "th", "sh", "gr", "pl"])
    rhymes = np.array(
        [*"aeiou", "an", "en", "in", "on", "ar", "er", "or", "al", "el", "is", "os", "ai", "ert", "olm"]
    )
    words: dict[str, None] = {}
    while len(words) < num:
        parts = [
            part for _ in range(syllables) for part in (rng.choice(onsets, num), rng.choice(rhymes, num))
        ]
        words.update(dict.fromkeys("".join(p) for p in zip(*parts, strict=True)))
    return np.array(list(words)[:num], dtype=object)


def _zipf(size: int, num: int, rng: np.random.Generator) -> Ints:
    """Ranks below `size`, each about as often as the inverse of its place in the list plus ten."""
    weights = 1.0 / (np.arange(size) + 10.0)
    return np.searchsorted(np.cumsum(weights / weights.sum())[:-1], rng.random(num)).astype(np.int64)


def _days(days: Ints) -> pl.Series:
    first = datetime(1940, 1, 1) - datetime(1970, 1, 1)
    return pl.Series(days + first // timedelta(days=1)).cast(pl.Int32).cast(pl.Date)
