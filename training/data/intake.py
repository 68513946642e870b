"""The intake: cleaned rows of every raw file, kept so that a file is read once, however often ingest runs.

One folder an entry, named by what the file holds (SHA-256), how the source reads it, and the code that did:
    part-00000.arrow …  rows in the order of their bucket: row, hi, lo, bucket, who, and the typed fields
    ids.arrow           who, source_id (raw), bucket, first_seen
    refused.arrow       row, field, reason, raw
    entry.json          counts, written with the folder's rename, so an entry is whole or not there
The intake holds raw identifiers: its folders have mode 700, its files 600, it is no artefact, and it can be
deleted at any time at the price of reading the raw files again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels import backend
from serving.contract import sha256_of
from training.data import (
    chunks,
    cleaning,
    csv_reader,
    digests,
    jsonl_reader,
    parquet_reader,
    records,
    scanning,
    times,
)
from training.data.chunks import REFUSED_SCHEMA, Chunk
from training.data.cleaning import Cleaned, Cleaner
from training.data.digests import hash_columns, order_by_byte
from training.data.forgetting import Gone
from training.data.readers import format_of, read_chunks
from training.data.sources import Source
from training.data.times import UTC

NUM_BUCKETS = 256
IDS_SCHEMA: dict[str, Any] = {"who": pl.UInt32, "source_id": pl.String, "bucket": pl.UInt8, "first_seen": UTC}
# Rows of fresh entries that stay in memory, so that a small shop is not read back from disk.
_FRESH_ROWS = 2_000_000
_MODULES = (
    chunks, cleaning, csv_reader, digests, jsonl_reader, parquet_reader, records, scanning, times,
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One file of rows; `offsets` [NUM_BUCKETS + 1] says where each bucket begins."""

    name: str
    offsets: list[int]


@dataclass(frozen=True)
class Entry:
    """The cleaned rows of one raw file."""

    folder: Path
    num_read: int
    parts: tuple[Part, ...]
    num_forgotten: int
    fresh: dict[str, pl.DataFrame]

    @property
    def num_rows(self) -> int:
        """Rows that cleaning accepted."""
        return sum(part.offsets[-1] for part in self.parts)

    def scan(self, first: int = 0, last: int = NUM_BUCKETS) -> pl.LazyFrame:
        """The rows of buckets first to last - 1."""
        frames = []
        for part in self.parts:
            begin, length = part.offsets[first], part.offsets[last] - part.offsets[first]
            whole = self.fresh.get(part.name)
            rows = whole.lazy() if whole is not None else pl.scan_ipc(self.folder / part.name)
            frames.append(rows if length == part.offsets[-1] else rows.slice(begin, length))
        return pl.concat(frames)

    def ids(self) -> pl.DataFrame:
        """Every raw id of the file once: IDS_SCHEMA."""
        return pl.read_ipc(self.folder / "ids.arrow", memory_map=False)

    def refused(self) -> pl.DataFrame:
        """What cleaning refused: REFUSED_SCHEMA."""
        return pl.read_ipc(self.folder / "refused.arrow", memory_map=False)


class Intake:
    """The entries below one folder."""

    def __init__(self, folder: Path, gone: Gone | None = None, requested: str = "auto") -> None:
        self.folder = folder
        self._gone = gone
        self.engine = backend.polars_engine(requested)
        self.num_fresh = 0
        self._code = _code_sha256()
        self._hashes = _Hashes(folder / "files.json")
        self._memory = _FRESH_ROWS
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)

    def key(self, source: Source, path: Path) -> str:
        """The name of the entry of this file as this source reads it."""
        how = {k: v for k, v in asdict(source).items() if k not in ("base", "path")}
        how |= {"format": format_of(source, path), "code": self._code}
        how |= {"gone": self._gone.sha256(source.name)} if self._gone else {}
        text = json.dumps([self._hashes.sha256(path), how], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def entry(self, source: Source, path: Path) -> Entry:
        """Return the entry of a file, made now if there is none; raises IngestError for what is no data."""
        folder = self.folder / self.key(source, path)
        if not (folder / "entry.json").is_file():
            return self._make(source, path, folder)
        raw = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
        parts = tuple(Part(**part) for part in raw["parts"])
        return Entry(folder, raw["num_read"], parts, raw["num_forgotten"], {})

    def keep_only(self, names: Collection[str]) -> None:
        """Delete the entries that the present tables are not made of."""
        for folder in self.folder.iterdir():
            if folder.is_dir() and folder.name not in names:
                shutil.rmtree(folder)
        self._hashes.write()

    def _make(self, source: Source, path: Path, folder: Path) -> Entry:
        self.num_fresh += 1
        staged = self.folder / f".{folder.name}.{os.getpid()}"
        for day_first in (None, True, False):
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir(mode=0o700)
            cleaner = Cleaner(source, self.engine, day_first)
            writer = _Writer(source, staged, self._gone)
            try:
                for chunk in read_chunks(source, path):
                    writer.add(chunk, cleaner.clean(chunk))
            except BaseException:
                shutil.rmtree(staged, ignore_errors=True)
                raise
            if not cleaner.num_ambiguous or cleaner.day_first == cleaner.votes.is_day_first:
                break
        fresh = writer.frames if writer.num_rows <= self._memory else {}
        self._memory -= writer.num_rows if fresh else 0
        content = writer.finish()
        staged.replace(folder)
        return Entry(folder, content["num_read"], tuple(writer.parts), content["num_forgotten"], fresh)


class _Writer:
    """Writes the parts of one entry."""

    def __init__(self, source: Source, folder: Path, gone: Gone | None) -> None:
        self.source = source
        self._gone = gone
        self._num_forgotten = 0
        self.folder = folder
        self.parts: list[Part] = []
        self.frames: dict[str, pl.DataFrame] = {}
        self.num_rows = 0
        self._num_read = 0
        self._refused: list[pl.DataFrame] = [pl.DataFrame(schema=REFUSED_SCHEMA)]
        self._category = pl.Categorical(pl.Categories.random("ids"))
        self._alive = pl.Series([], dtype=self._category)  # numbers are forgotten with their last column
        self._buckets = np.zeros(0, dtype=np.uint8)  # of each id
        self._seen: list[pl.DataFrame] = []

    def add(self, chunk: Chunk, cleaned: Cleaned) -> None:
        self._num_read += chunk.num_read
        cleaned = self._without_forgotten(cleaned)
        if self.source.derived:
            rows, counts = _folded(cleaned.rows), np.zeros(NUM_BUCKETS, dtype=np.int64)
            counts[0] = rows.height
        else:
            self._refused += [chunk.refused, cleaned.refused]
            rows, counts = self._placed(cleaned)
        part = Part(f"part-{len(self.parts):05d}.arrow", [0, *np.cumsum(counts).tolist()])
        self._write(rows, part.name)
        self.parts.append(part)
        self.num_rows += rows.height
        if self.num_rows <= _FRESH_ROWS:
            self.frames[part.name] = rows

    def finish(self) -> dict[str, Any]:
        refused = pl.concat(self._refused)
        if self._gone is not None:
            theirs = self._gone.named_in(self.source.name, refused["raw"])
            self._num_forgotten += int(theirs.sum())
            refused = refused.filter(~theirs)
        self._write(refused, "refused.arrow")
        self._write(self._ids(), "ids.arrow")
        content = {
            "format_version": 1,
            "num_read": self._num_read,
            "parts": [asdict(part) for part in self.parts],
            "num_forgotten": self._num_forgotten,
        }
        with _private(self.folder / "entry.json") as stream:
            stream.write(json.dumps(content).encode())
        return content

    def _without_forgotten(self, cleaned: Cleaned) -> Cleaned:
        if self._gone is None or "source_id" not in cleaned.rows.columns:
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

    def _placed(self, cleaned: Cleaned) -> tuple[pl.DataFrame, NDArray[np.int64]]:
        """Good rows in the order of their buckets, and how many each bucket has.

        `who` numbers the id of a row; all rows of one id, or of one visit without an id, share a bucket.
        """
        rows, broken = cleaned.rows, cleaned.broken
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
        good = np.ones(rows.height, dtype=np.bool_) if broken is None else ~broken.to_numpy()
        order, counts = order_by_byte(bucket.to_numpy(), good)
        rows = rows.with_columns(bucket.alias("bucket"), who)
        return rows[pl.Series(order)], counts

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
        with _private(self.folder / name) as stream:
            frame.write_ipc(stream, compression="uncompressed")


class _Hashes:
    """SHA-256 of raw files, known from the last run where size and time of change are the same."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[Any]] = {}
        self._used: dict[str, list[Any]] = {}
        if path.is_file():
            self._known = json.loads(path.read_text(encoding="utf-8"))

    def sha256(self, path: Path) -> str:
        status, name = path.stat(), str(path.resolve())
        stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
        known = self._used.get(name) or self._known.get(name)
        if known is None or known[:3] != stamp:
            known = [*stamp, sha256_of(path)]
        self._used[name] = known
        return str(known[3])

    def write(self) -> None:
        staged = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with _private(staged) as stream:
            stream.write(json.dumps(self._used).encode())
        staged.replace(self._path)


def _top_byte(hashes: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return (hashes >> np.uint64(56)).astype(np.uint8)


def _folded(rows: pl.DataFrame) -> pl.DataFrame:
    """Facts taken out of rows of something else: each once, with how often it was seen."""
    facts = [n for n in rows.columns if n not in ("row", "hi", "lo")]
    folded = rows.group_by(facts).agg(pl.len().alias("weight"))
    return folded.with_columns(pl.lit(0, dtype=pl.UInt8).alias("bucket"))


def _private(path: Path) -> Any:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _code_sha256() -> str:
    """Changes with the code that reads and cleans, so that no entry outlives it."""
    texts = [Path(str(module.__file__)).read_bytes() for module in _MODULES]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()
