"""The intake: a cache of the cleaned rows of every raw file, so that each file is read once.

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

from shopsight.kernels import backend
from shopsight.serving.contract import sha256_of
from shopsight.serving.durable import private
from shopsight.training.data import digests, fields, intake_writer, money
from shopsight.training.data.cleaning import (
    amounts,
    conventions,
    order_lines,
    times,
    typed_columns,
    written_currency,
)
from shopsight.training.data.cleaning import rules as cleaning
from shopsight.training.data.cleaning.conventions import Convention, Evidence
from shopsight.training.data.cleaning.rules import Cleaner
from shopsight.training.data.forgetting import Gone
from shopsight.training.data.intake_writer import NUM_BUCKETS, EntryWriter, Part
from shopsight.training.data.reading import (
    chunks,
    csv_layout,
    csv_reader,
    json_documents,
    json_paths,
    jsonl_reader,
    lookups,
    parquet_reader,
    quoting,
    records,
    scanning,
    workbook,
)
from shopsight.training.data.reading import non_data_lines as non_data_lines
from shopsight.training.data.reading.extent import Extent
from shopsight.training.data.reading.lookups import lookup_files, with_lookups
from shopsight.training.data.reading.prefetch import ahead
from shopsight.training.data.reading.readers import files_of, format_of, read_chunks
from shopsight.training.data.sources.source import Source

# Rows of fresh entries that stay in memory, so that a small shop is not read back from disk.
_FRESH_ROWS = 2_000_000
_MODULES = (
    amounts, chunks, cleaning, conventions, csv_layout, csv_reader, digests, fields, intake_writer,
    json_documents, json_paths, jsonl_reader, lookups, money, non_data_lines, order_lines, parquet_reader,
    quoting, records, scanning, times, typed_columns, workbook,
    written_currency,
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """The cleaned rows of one raw file; `extent` (of text) and `notes` say how it was read."""

    folder: Path
    num_read: int
    parts: tuple[Part, ...]
    num_forgotten: int
    evidence: Evidence
    convention: Convention
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
        self.read_again: list[str] = []  # files that were known, and why they are read all the same
        self._before: list[tuple[str, dict[str, str]]] | None = None
        self._code = _code_sha256()
        self._hashes = _Hashes(folder / "files.json")
        self._memory = _FRESH_ROWS
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)

    def key(self, source: Source, path: Path, convention: Convention) -> str:
        """The name of the entry of this file as this source reads it under a convention."""
        text = json.dumps([self._hashes.sha256(path), self._how(source, path, convention)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def entry(self, source: Source, path: Path, convention: Convention) -> Entry:
        """Return the entry of a file, made now if there is none; raises IngestError for what is no data."""
        folder = self.folder / self.key(source, path, convention)
        if not (folder / "entry.json").is_file():
            return self._make(source, path, convention, folder)
        raw = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
        return _entry(folder, raw, {}, convention)

    def keep_only(self, names: Collection[str]) -> None:
        """Delete the entries that the present tables are not made of."""
        for folder in self.folder.iterdir():
            if folder.is_dir() and folder.name not in names:
                shutil.rmtree(folder)
        self._hashes.write()

    def _how(self, source: Source, path: Path, convention: Convention) -> dict[str, str]:
        """All that the rows of an entry follow from beside the bytes of its file."""
        raw = asdict(source) | asdict(convention) | {"format": format_of(source, path), "code": self._code}
        raw |= {"lookup files": [self._hashes.sha256(p) for s in lookup_files(source) for p in files_of(s)]}
        raw |= {"forgotten": self._gone.sha256(source.name)} if self._gone else {}
        return {k: json.dumps(v, sort_keys=True) for k, v in raw.items() if k not in ("base", "path")}

    def _make(self, source: Source, path: Path, convention: Convention, folder: Path) -> Entry:
        self.num_fresh += 1
        self._tell_why(source, path, convention)
        staged = self.folder / f".{folder.name}.{os.getpid()}"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(mode=0o700)
        cleaner = Cleaner(source, self.engine, convention)
        writer = EntryWriter(source, staged, self._gone, self._memory)
        try:
            for chunk in ahead(with_lookups(source, read_chunks(source.own, path))):
                writer.add(chunk, cleaner.clean(chunk))
            how = self._how(source, path, convention)
            content = writer.finish(
                {"file": self._hashes.sha256(path), "how": how, "evidence": cleaner.evidence.as_dict()}
            )
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        fresh = writer.frames
        self._memory -= sum(frame.height for frame in fresh.values())
        staged.replace(folder)
        return _entry(folder, content, fresh, convention)

    def _tell_why(self, source: Source, path: Path, convention: Convention) -> None:
        """Remember why a file is read whose bytes an earlier run has read for the same source."""
        how, file = self._how(source, path, convention), self._hashes.sha256(path)
        for known_file, known in self._read_before():
            if known_file == file and all(known.get(k) == how[k] for k in ("name", "kind", "derived")):
                changed = [k for k in sorted(how.keys() | known.keys()) if how.get(k) != known.get(k)]
                told = ["the rules of this release" if k == "code" else k for k in changed]
                self.read_again.append(
                    f"{source.label}: {path.name} is read again, changed: {', '.join(told)}"
                )
                return

    def _read_before(self) -> list[tuple[str, dict[str, str]]]:
        if self._before is None:
            raws = [json.loads(p.read_text(encoding="utf-8")) for p in self.folder.glob("[!.]*/entry.json")]
            self._before = [(raw["file"], raw["how"]) for raw in raws if "how" in raw]
        return self._before


def _entry(
    folder: Path, raw: dict[str, Any], fresh: dict[str, pl.DataFrame], convention: Convention
) -> Entry:
    parts = tuple(Part(**part) for part in raw["parts"])
    extent = Extent(**raw["extent"]) if raw["extent"] else None
    return Entry(
        folder, raw["num_read"], parts, raw["num_forgotten"], Evidence.of(raw["evidence"]), convention, fresh,
        extent, tuple(raw["notes"]),
    )  # fmt: skip


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
