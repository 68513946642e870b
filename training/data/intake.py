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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from kernels import backend
from serving.contract import sha256_of
from training.data import (
    chunks,
    cleaning,
    csv_layout,
    csv_reader,
    digests,
    furniture,
    intake_writer,
    jsonl_reader,
    parquet_reader,
    quoting,
    records,
    scanning,
    times,
)
from training.data.cleaning import Cleaner
from training.data.extent import Extent
from training.data.forgetting import Gone
from training.data.intake_writer import NUM_BUCKETS, EntryWriter, Part, private
from training.data.prefetch import ahead
from training.data.readers import format_of, read_chunks
from training.data.sources import Source

# Rows of fresh entries that stay in memory, so that a small shop is not read back from disk.
_FRESH_ROWS = 2_000_000
_MODULES = (
    chunks, cleaning, csv_layout, csv_reader, digests, furniture, intake_writer, jsonl_reader, parquet_reader,
    quoting, records, scanning, times,
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """The cleaned rows of one raw file; `extent` (of text) and `notes` say how it was read."""

    folder: Path
    num_read: int
    parts: tuple[Part, ...]
    num_forgotten: int
    fresh: dict[str, pl.DataFrame]
    extent: Extent | None = None
    notes: tuple[str, ...] = ()

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
        return _entry(folder, raw, {})

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
            writer = EntryWriter(source, staged, self._gone, self._memory)
            try:
                for chunk in ahead(read_chunks(source, path)):
                    writer.add(chunk, cleaner.clean(chunk))
            except BaseException:
                shutil.rmtree(staged, ignore_errors=True)
                raise
            if not cleaner.num_ambiguous or cleaner.day_first == cleaner.votes.is_day_first:
                break
        content = writer.finish()
        fresh = writer.frames
        self._memory -= sum(frame.height for frame in fresh.values())
        staged.replace(folder)
        return _entry(folder, content, fresh)


def _entry(folder: Path, raw: dict[str, Any], fresh: dict[str, pl.DataFrame]) -> Entry:
    parts = tuple(Part(**part) for part in raw["parts"])
    extent = Extent(**raw["extent"]) if raw["extent"] else None
    return Entry(folder, raw["num_read"], parts, raw["num_forgotten"], fresh, extent, tuple(raw["notes"]))


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
        with private(staged) as stream:
            stream.write(json.dumps(self._used).encode())
        staged.replace(self._path)


def _code_sha256() -> str:
    """Changes with the code that reads and cleans, so that no entry outlives it."""
    texts = [Path(str(module.__file__)).read_bytes() for module in _MODULES]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()
