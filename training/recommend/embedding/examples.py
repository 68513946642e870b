"""Training examples as memory-mapped columns of events; each example refers to its history by position."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopsight.serving.contract import read_json, write_json
from shopsight.training.data.column_files import map_columns, write_columns

FORMAT_VERSION = 1
_META = "examples.json"
_HOUR = 3_600_000_000
Array = NDArray[Any]
Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]


@dataclass(frozen=True)
class Features:
    """Categorical facts, one column each: codes int32 [n, features], 0 for unknown, below `sizes`."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    codes: Int32

    def __post_init__(self) -> None:
        """Refuse codes outside their tables: the CPU kernels would read and write out of bounds."""
        wrong = (self.codes < 0) | (self.codes >= np.array(self.sizes, dtype=np.int64))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise ValueError(
                f"{self.names[column]}: row {row} has code {self.codes[row, column]}, "
                f"the table has {self.sizes[column]} rows"
            )

    @staticmethod
    def none(num: int) -> Features:
        """Return empty features of `num` customers or items."""
        return Features((), (), np.zeros((num, 0), dtype=np.int32))


@dataclass(frozen=True)
class Schema:
    """The sizes of a model's inputs: the number of items, and the features with their numbers of values."""

    num_items: int
    item_buckets: int
    customer_features: dict[str, int]
    item_features: dict[str, int]
    catalogue_sha256: str


@dataclass(frozen=True)
class Examples:
    """The mapped columns.

    item, customer int32 [events]: what was done, by customer and then in time. begin, until int64 [events]:
    the history of an example at that event lies at begin..until, without what came at the same time. target
    int64 [examples]: the events to learn from. end int64 [customers + 1]: where each customer's events end
    and the next one's begin. item_row int32 [items]: the row of each item in the tables, its bucket's for an
    item without events; item_bucket int32 [items]: its bucket's. item_count int64 [items]: its examples.
    customer_feature, item_feature: codes, as `Features` has them.
    """

    schema: Schema
    item: Int32
    customer: Int32
    begin: Int64
    until: Int64
    target: Int64
    end: Int64
    item_row: Int32
    item_bucket: Int32
    item_count: Int64
    customer_feature: Int32
    item_feature: Int32

    @staticmethod
    def open(folder: Path) -> Examples:
        """Memory-map what `write_examples` wrote."""
        meta = read_json(folder / _META)
        # Features are stored as pairs, because write_json sorts keys and the order of columns matters.
        schema: dict[str, Any] = {
            name: dict(value) if isinstance(value, list) else value for name, value in meta["schema"].items()
        }
        return Examples(schema=Schema(**schema), **map_columns(folder))


def write_examples(
    folder: Path,
    *,
    customer: Array,
    item: Array,
    time: Int64,
    is_target: NDArray[np.bool_],
    item_ids: Sequence[str],
    customer_features: Features,
    item_features: Features,
    item_buckets: int,
    gap_hours: float = 0.0,
) -> None:
    """Write the columns of these events to `folder`, replacing its content.

    customer, item: row numbers [events]; time: int64 [events], microseconds or any order within a customer;
    is_target: which events are examples; gap_hours: an example's history ends so long before it.
    """
    num_customers, num_items = len(customer_features.codes), len(item_ids)
    order = np.lexsort((time, customer))
    customer, item, time = customer[order], item[order], time[order]
    end = np.concatenate([[0], np.cumsum(np.bincount(customer, minlength=num_customers))]).astype(np.int64)
    target = np.flatnonzero(is_target[order]).astype(np.int64)
    seen = np.zeros(num_items, dtype=np.bool_)
    seen[item] = True
    buckets = num_items + buckets_of(item_ids, item_buckets)
    write_columns(
        folder,
        {
            "item": item.astype(np.int32),
            "customer": customer.astype(np.int32),
            "begin": end[customer],
            "until": _until(customer, time, end, int(gap_hours * _HOUR)),
            "target": target,
            "end": end,
            "item_row": np.where(seen, np.arange(num_items), buckets).astype(np.int32),
            "item_bucket": buckets.astype(np.int32),
            "item_count": np.bincount(item[target], minlength=num_items).astype(np.int64),
            "customer_feature": customer_features.codes,
            "item_feature": item_features.codes,
        },
    )
    schema = {
        "num_items": num_items,
        "item_buckets": item_buckets,
        "customer_features": list(zip(customer_features.names, customer_features.sizes, strict=True)),
        "item_features": list(zip(item_features.names, item_features.sizes, strict=True)),
        "catalogue_sha256": catalogue_sha256(item_ids, item_features),
    }
    write_json(folder / _META, {"format_version": FORMAT_VERSION, "schema": schema})


def buckets_of(ids: Sequence[str], num_buckets: int) -> Int64:
    """Return the bucket of each id, int64 [ids]: BLAKE2b of its UTF-8, little-endian, modulo num_buckets."""
    digests = b"".join(hashlib.blake2b(one.encode(), digest_size=8).digest() for one in ids)
    return (np.frombuffer(digests, dtype="<u8") % np.uint64(num_buckets)).astype(np.int64)


def catalogue_sha256(item_ids: Sequence[str], features: Features) -> str:
    """Return the SHA-256 of a catalogue: of its ids in order and their features."""
    digest = hashlib.sha256(json.dumps([list(item_ids), features.names, features.sizes]).encode())
    digest.update(np.ascontiguousarray(features.codes).tobytes())
    return digest.hexdigest()


def _until(customer: Array, time: Int64, end: Int64, gap: int) -> Int64:
    """Return the end of each event's history: before all events of its customer within `gap` before it.

    Events at the same time are not part of it: the lines of an order would predict each other.
    """
    if not len(time):
        return np.empty(0, dtype=np.int64)
    # One ascending key over all customers, so that a single bisection answers for every event.
    span = int(time.max() - time.min()) + gap + 2
    key = customer.astype(np.int64) * span + (time - time.min()) + gap + 1
    found = np.maximum(np.searchsorted(key, key - gap, side="left"), end[customer])
    return np.asarray(found, dtype=np.int64)
