"""Candidate pairs: records that share a key of one of several blocking rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.training.data.identity.linkage.comparisons import Encoded

Rows = NDArray[np.int64]
Keys = NDArray[np.uint64]
Codes = NDArray[np.int64]

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
MAX_PAIRS_A_RECORD, _FEW_PAIRS = 1.5, 100_000  # of one rule; few pairs are cheap whatever the share
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Candidates:
    """Pairs (left < right, sorted, unique), and how many blocks were too large to be paired, by rule."""

    left: Rows
    right: Rows
    skipped_blocks: dict[str, int]
    height: int

    def places(self, pairs: Rows) -> Rows:
        """Where these pairs [k, 2] of records stand among the candidates; all of them must."""
        wanted = pairs.min(axis=1) * self.height + pairs.max(axis=1)
        places: Rows = np.searchsorted(self.left * self.height + self.right, wanted)
        return places


def candidate_pairs(encoded: Encoded, max_block: int, extra: Rows) -> Candidates:
    """Pair the records that share a key, and those of `extra` [k, 2]; blocks above `max_block` are skipped
    (other rules are finer).

    A rule that would give more than MAX_PAIRS_A_RECORD skips its largest blocks too, so that the pairs grow
    with the records and not with their square.
    """
    keys = _keys(encoded)
    found: list[Rows] = [extra.min(axis=1) * encoded.height + extra.max(axis=1)]
    skipped: dict[str, int] = {}
    for rule in (*((key,) for key in _PERSONAL), *_RULES):
        rows, hashed = _hashed([keys[name] for name in rule])
        pairs, num_skipped = _pairs_of_blocks(rows, hashed, max_block, encoded.height)
        found.append(pairs)
        if num_skipped:
            skipped["+".join(rule)] = num_skipped
    packed = np.sort(np.concatenate(found))
    packed = packed[np.concatenate(([True], packed[1:] != packed[:-1]))] if packed.size else packed
    height = max(encoded.height, 1)
    return Candidates(packed // height, packed % height, skipped, height)


def _keys(encoded: Encoded) -> dict[str, Codes]:
    """What the rules name, as numbers [n], -1 for nothing: equal numbers for equal texts."""
    keys = {name: codes.astype(np.int64) for name, codes in encoded.codes.items()}
    first = pl.col("text").str
    keys["family_start"] = _derived(encoded, "family", first.head(3))
    keys["birth_year"] = _derived(encoded, "birth", first.head(4))
    keys["city_start"] = _derived(encoded, "city", first.head(4))
    keys["street_start"] = _derived(encoded, "street", first.head(7))
    keys["local_part"] = _derived(encoded, "email", first.split("@").list.first())
    # Names are sorted, so that swapped ones meet.
    keys["initials"] = _either_way(*(_derived(encoded, n, first.head(1)) for n in ("given", "family")))
    keys["name_starts"] = _either_way(*(_derived(encoded, n, first.head(3)) for n in ("given", "family")))
    keys["names"] = _either_way(keys["given"], keys["family"])
    return keys


def _derived(encoded: Encoded, name: str, part: pl.Expr) -> Codes:
    """Numbers of a part of each text, worked out once for each distinct text."""
    parts = pl.DataFrame({"text": encoded.texts[name]}, schema={"text": pl.String}).select(part)
    numbers = parts.to_series().rank("dense").cast(pl.Int64).to_numpy()
    return np.append(numbers, -1)[encoded.codes[name]]


def _either_way(given: Codes, family: Codes) -> Codes:
    low, high = np.minimum(given, family), np.maximum(given, family)
    return np.where(low >= 0, low << 32 | high, -1)


def _hashed(parts: list[Codes]) -> tuple[Rows, Keys]:
    """The rows that have all parts, and one number for them: a rare collision makes a candidate too many."""
    complete = np.logical_and.reduce([part >= 0 for part in parts])
    rows = np.flatnonzero(complete)
    hashed = np.zeros(rows.size, dtype=np.uint64)
    for part in parts:
        hashed = (hashed ^ (hashed >> np.uint64(29)) ^ part[rows].astype(np.uint64)) * _MIX
    return rows, hashed


def _pairs_of_blocks(rows: Rows, keys: Keys, max_block: int, height: int) -> tuple[Rows, int]:
    """Pairs within blocks of equal keys, packed as left * height + right."""
    if rows.size < 2:
        return np.zeros(0, np.int64), 0
    order = np.argsort(keys)
    keys, rows = keys[order], rows[order]
    firsts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    sizes = np.diff(np.append(firsts, keys.size))
    largest = _largest_block(sizes, max_block)
    kept = np.repeat((sizes > 1) & (sizes <= largest), sizes)
    keys, rows = keys[kept], rows[kept]
    found = [np.zeros(0, np.int64)]
    for distance in range(1, largest):
        same = np.flatnonzero(keys[distance:] == keys[:-distance])
        if not same.size:
            break
        one, other = rows[same], rows[same + distance]
        found.append(np.minimum(one, other) * height + np.maximum(one, other))
    return np.concatenate(found), int((sizes > largest).sum())


def _largest_block(sizes: NDArray[np.int64], max_block: int) -> int:
    """The size up to which blocks are paired: all pairs of these sizes fit what a rule may give."""
    lengths = np.arange(max_block + 1)
    records = (
        np.bincount(np.minimum(sizes, max_block + 1), minlength=max_block + 2)[: max_block + 1] * lengths
    )
    pairs = np.cumsum(records * (lengths - 1) / 2)
    return int(np.searchsorted(pairs, max(MAX_PAIRS_A_RECORD * sizes.sum(), _FEW_PAIRS), side="right")) - 1
