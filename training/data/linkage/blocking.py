"""Candidate pairs: records that share a key of one of several blocking rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Rows = NDArray[np.int64]

# Each rule catches pairs that differ in what the others need; keys of a person alone come first.
_PERSONAL = ("email", "phone", "loyalty", "gov_id")
_RULES: tuple[tuple[str, ...], ...] = (
    ("birth", "initials"),
    ("birth", "postcode"),
    ("birth", "city_start"),
    ("birth", "street_start"),
    ("names", "birth_year"),
    ("names", "city"),
    ("names",),
    ("name_starts", "city_start"),
    ("name_starts", "street_start"),
    ("name_starts", "state"),
    ("name_starts", "postcode"),
    ("family", "postcode"),
    ("given", "postcode"),
    ("family", "street_start"),
    ("given", "street_start"),
    ("street_start", "city_start"),
    ("street", "postcode"),
    ("local_part", "family_start"),
)  # fmt: skip


@dataclass(frozen=True)
class Candidates:
    """Pairs (left < right, sorted, unique), and how many blocks were too large to be paired, by rule."""

    left: Rows
    right: Rows
    skipped_blocks: dict[str, int]


def candidate_pairs(people: pl.DataFrame, max_block: int) -> Candidates:
    """Pair the records that share a key; blocks above `max_block` are skipped (other rules are finer)."""
    keys = people.with_columns(
        pl.col("family").str.head(3).alias("family_start"),
        pl.col("birth").str.head(4).alias("birth_year"),
        pl.col("city").str.head(4).alias("city_start"),
        pl.col("street").str.head(7).alias("street_start"),
        pl.col("email").str.split("@").list.first().alias("local_part"),
        # Sorted, so that swapped names meet.
        _sorted_names(1).alias("initials"),
        _sorted_names(3).alias("name_starts"),
        _sorted_names(None).alias("names"),
    )
    found: list[Rows] = []
    skipped: dict[str, int] = {}
    for rule in (*((key,) for key in _PERSONAL), *_RULES):
        complete = keys.select(pl.all_horizontal(pl.col(c).is_not_null() for c in rule)).to_series()
        rows = complete.arg_true().to_numpy().astype(np.int64)
        if rows.size < 2:
            continue
        hashed = keys.select(pl.struct(rule).hash()).to_series().to_numpy()[rows]
        pairs, num_skipped = _pairs_of_blocks(rows, hashed, max_block, people.height)
        found.append(pairs)
        if num_skipped:
            skipped["+".join(rule)] = num_skipped
    packed = np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)
    return Candidates(packed // people.height, packed % people.height, skipped)


def _pairs_of_blocks(rows: Rows, keys: NDArray[np.uint64], max_block: int, height: int) -> tuple[Rows, int]:
    """Pairs within blocks of equal keys, packed as left * height + right."""
    order = np.argsort(keys, kind="stable")
    keys, rows = keys[order], rows[order]
    firsts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    sizes = np.diff(np.append(firsts, keys.size))
    kept = np.repeat((sizes > 1) & (sizes <= max_block), sizes)
    keys, rows = keys[kept], rows[kept]
    found = [np.zeros(0, np.int64)]
    for distance in range(1, max_block):
        same = np.flatnonzero(keys[distance:] == keys[:-distance])
        if not same.size:
            break
        # A stable sort keeps rows of one block ascending, so left < right.
        found.append(rows[same] * height + rows[same + distance])
    return np.concatenate(found), int((sizes > max_block).sum())


def _sorted_names(length: int | None) -> pl.Expr:
    given, family = pl.col("given").str.head(length or 99), pl.col("family").str.head(length or 99)
    both = pl.min_horizontal(given, family) + " " + pl.max_horizontal(given, family)
    return pl.when(given.is_not_null() & family.is_not_null()).then(both)
