"""Writes an entry of the intake: rows by bucket, ids in a file of their own, refusals, counts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.serving.durable import private
from shopsight.training.data.cleaning.rules import Cleaned
from shopsight.training.data.cleaning.times import UTC
from shopsight.training.data.digests import hash_columns, order_by_byte
from shopsight.training.data.forgetting import Gone
from shopsight.training.data.reading.chunks import REFUSED_SCHEMA, Chunk
from shopsight.training.data.reading.extent import Extent
from shopsight.training.data.sources.source import Source

NUM_BUCKETS = 256
IDS_SCHEMA: dict[str, Any] = {"who": pl.UInt32, "source_id": pl.String, "bucket": pl.UInt8, "first_seen": UTC}
PART_ROWS = 400_000


@dataclass(frozen=True)
class Part:
    """One file of rows; `offsets` [NUM_BUCKETS + 1] says where each bucket begins."""

    name: str
    offsets: list[int]


class EntryWriter:
    """Writes the parts of one entry, each of PART_ROWS rows or a few more."""

    def __init__(self, source: Source, folder: Path, gone: Gone | None, most_fresh: int) -> None:
        self.source = source
        self._most_fresh = most_fresh
        self._gone = gone
        self._num_forgotten = 0
        self.folder = folder
        self.parts: list[Part] = []
        self.frames: dict[str, pl.DataFrame] = {}
        self.num_rows = 0
        self._num_read = 0
        self._extent: Extent | None = None
        self._notes: list[str] = []
        self._pending: list[pl.DataFrame] = []
        self._good: list[NDArray[np.bool_]] = []
        self._refused: list[pl.DataFrame] = [pl.DataFrame(schema=REFUSED_SCHEMA)]
        self._category = pl.Categorical(pl.Categories.random("ids"))
        self._alive = pl.Series([], dtype=self._category)  # numbers are forgotten with their last column
        self._buckets = np.zeros(0, dtype=np.uint8)  # of each id
        self._seen: list[pl.DataFrame] = []

    def add(self, chunk: Chunk, cleaned: Cleaned) -> None:
        """Take in a chunk of the raw file."""
        self._num_read += chunk.num_read
        self._notes += chunk.notes
        if chunk.extent is not None:
            self._extent = (self._extent or Extent()) + chunk.extent
        cleaned = self._without_forgotten(cleaned)
        if self.source.derived:
            self._pending.append(_folded(cleaned.rows))
            self._good.append(np.ones(self._pending[-1].height, dtype=np.bool_))
        else:
            self._refused += [chunk.refused, cleaned.refused]
            broken = cleaned.broken
            self._pending.append(self._placed(cleaned.rows, broken))
            self._good.append(
                np.ones(cleaned.rows.height, np.bool_) if broken is None else ~broken.to_numpy()
            )
        if sum(rows.height for rows in self._pending) >= PART_ROWS:
            self._flush()

    def finish(self, about: dict[str, Any]) -> dict[str, Any]:
        """Write what is left and return what entry.json says, `about` how the file was read included."""
        if self._pending:
            self._flush()
        refused = pl.concat(self._refused)
        if self._gone is not None:
            theirs = self._gone.named_in(self.source.name, refused)
            self._num_forgotten += int(theirs.sum())
            refused = refused.filter(~theirs).with_columns(self._gone.masked(refused["raw"].filter(~theirs)))
        self._write(refused, "refused.arrow")
        self._write(self._ids(), "ids.arrow")
        content = {
            "format_version": 1,
            "num_read": self._num_read,
            "parts": [asdict(part) for part in self.parts],
            "num_forgotten": self._num_forgotten,
            "extent": asdict(self._extent) if self._extent else None,
            "notes": self._notes,
            **about,
        }
        with private(self.folder / "entry.json") as stream:
            stream.write(json.dumps(content).encode())
        return content

    def _flush(self) -> None:
        """Write the good rows in the order of their buckets."""
        rows, good = pl.concat(self._pending), np.concatenate(self._good)
        self._pending, self._good = [], []
        order, counts = order_by_byte(rows["bucket"].to_numpy(), good)
        part = Part(f"part-{len(self.parts):05d}.arrow", [0, *np.cumsum(counts).tolist()])
        rows = rows[pl.Series(order)]
        self._write(rows, part.name)
        self.parts.append(part)
        self.num_rows += rows.height
        if self.num_rows <= self._most_fresh:
            self.frames[part.name] = rows
        else:
            self.frames.clear()

    def _without_forgotten(self, cleaned: Cleaned) -> Cleaned:
        if self._gone is None:
            return cleaned
        if "text" in cleaned.rows.columns:
            cleaned = replace(
                cleaned, rows=cleaned.rows.with_columns(self._gone.masked(cleaned.rows["text"]))
            )
        if "source_id" not in cleaned.rows.columns:
            return cleaned
        theirs = self._gone.among(self.source.name, cleaned.rows["source_id"])
        if not theirs.any():
            return cleaned
        if self.source.derived:
            return replace(cleaned, rows=cleaned.rows.filter(~theirs))
        told = cleaned.rows["row"].filter(theirs)
        broken = theirs if cleaned.broken is None else cleaned.broken | theirs
        self._num_forgotten += told.len()
        refused = cleaned.refused.filter(~pl.col("row").is_in(told.implode()))
        return replace(cleaned, broken=broken, refused=refused)

    def _placed(self, rows: pl.DataFrame, broken: pl.Series | None) -> pl.DataFrame:
        """Give rows `who`, a number for their id, and a bucket.

        All rows of one id, or of one visit without an id, share a bucket.
        """
        who = pl.Series("who", [None], dtype=pl.UInt32).new_from_index(0, rows.height)
        bucket = pl.Series("bucket", _top_byte(rows["hi"].to_numpy()))
        if "source_id" in rows.columns:
            who = self._numbered(rows, broken)
            ours = pl.Series(self._buckets).gather(who)
            bucket = ours.zip_with(ours.is_not_null(), bucket).alias("bucket")
            rows = rows.drop("source_id")
        nameless = who.is_null()
        visit = [n for n in ("session_id", "order_id", "request_id") if n in rows.columns]
        if visit and nameless.any():
            key = rows.filter(nameless).select(pl.coalesce(visit).alias("visit"))
            hashed = pl.Series(_top_byte(hash_columns(key, ["visit"], "visit").hi))
            hashed = hashed.zip_with(key["visit"].is_not_null(), bucket.filter(nameless))
            bucket = bucket.scatter(nameless.arg_true(), hashed)
        return rows.with_columns(bucket.alias("bucket"), who)

    def _numbered(self, rows: pl.DataFrame, broken: pl.Series | None) -> pl.Series:
        """The number of each row's id, the same in all chunks of the file; remembers when it was seen."""
        names = rows["source_id"].cast(self._category)
        who = names.to_physical().alias("who")
        who = who if broken is None else who.set(broken, None)
        when = pl.col("timestamp").min() if "timestamp" in rows.columns else pl.lit(None, dtype=UTC)
        at = rows.select(names.alias("source_id"), who, *(n for n in ("timestamp",) if n in rows.columns))
        seen = at.drop_nulls("who").group_by("who").agg(
            pl.col("source_id").first().cast(pl.String), when.cast(UTC).alias("first_seen")
        )  # fmt: skip
        hashed = _top_byte(hash_columns(seen, ["source_id"], f"id:{self.source.name}").hi)
        numbers = seen["who"].to_numpy()
        size = max(self._buckets.size, int(numbers.max()) + 1 if numbers.size else 0, 1)
        self._buckets = np.concatenate([self._buckets, np.zeros(size - self._buckets.size, np.uint8)])
        self._buckets[numbers] = hashed
        self._seen.append(seen.with_columns(pl.Series("bucket", hashed)))
        return who

    def _ids(self) -> pl.DataFrame:
        seen = pl.concat([pl.DataFrame(schema=IDS_SCHEMA), *(s.select(list(IDS_SCHEMA)) for s in self._seen)])
        firsts = pl.col("source_id").first(), pl.col("bucket").first(), pl.col("first_seen").min()
        return seen.group_by("who").agg(*firsts).sort("who")

    def _write(self, frame: pl.DataFrame, name: str) -> None:
        with private(self.folder / name) as stream:
            frame.write_ipc(stream, compression="uncompressed")


def _folded(rows: pl.DataFrame) -> pl.DataFrame:
    """Facts taken out of rows of something else: each once, with how often it was seen."""
    facts = [n for n in rows.columns if n not in ("row", "hi", "lo")]
    folded = rows.group_by(facts).agg(pl.len().alias("weight"))
    return folded.with_columns(pl.lit(0, dtype=pl.UInt8).alias("bucket"))


def _top_byte(hashes: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return (hashes >> np.uint64(56)).astype(np.uint8)
