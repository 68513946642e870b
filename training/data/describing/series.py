"""Raw files, and series of files of one repeated export, such as a file per day."""

from __future__ import annotations

import glob
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from shopsight.training.data.reading.readers import files_of, format_of, header_of
from shopsight.training.data.reading.records import guess_encoding
from shopsight.training.data.sources.source import Source


@dataclass(frozen=True)
class RawFile:
    """A file, a source that reads it as it is, its header, and its encoding where that is not UTF-8."""

    path: Path
    probe: Source
    header: list[str]
    encoding: str | None


@dataclass(frozen=True)
class Series:
    """Files with the same columns; `path` names them all: the one file, or a pattern for several."""

    files: tuple[RawFile, ...]
    path: Path

    @property
    def name(self) -> str:
        """How messages call the files."""
        first = self.files[0].path.name
        return first if len(self.files) == 1 else f"{self.path.name} ({len(self.files)} files)"

    @property
    def header(self) -> list[str]:
        """The columns, in the order of the first file."""
        return self.files[0].header

    @property
    def encoding(self) -> str | None:
        """The encoding where it is not UTF-8."""
        return self.files[0].encoding


def open_raw(path: Path) -> RawFile:
    """Look at a file; raises IngestError or OSError for one that cannot be read."""
    probe = Source(name=path.name, kind="messages", path=path.name, base=path.resolve().parent)
    files_of(probe)
    encoding = None if format_of(probe, path) == "parquet" else guess_encoding(path)
    if encoding is not None:
        probe = Source(probe.name, probe.kind, probe.path, probe.base, encoding=encoding)
    return RawFile(path, probe, header_of(probe, path), encoding)


def in_series(files: Sequence[RawFile], apart: Collection[Path]) -> list[Series]:
    """Gather files of one folder with the same columns, where a pattern names them and no other file.

    Files among `apart` stay alone. The order is that of the first files.
    """
    groups: dict[tuple[object, ...], list[RawFile]] = {}
    for file in files:
        alone = file.path if file.path in apart else None
        key = (file.path.resolve().parent, file.path.suffix, file.encoding, frozenset(file.header), alone)
        groups.setdefault(key, []).append(file)
    found = []
    for group in groups.values():
        pattern = _pattern([file.path for file in group])
        found += [Series(tuple(group), pattern)] if pattern else [Series((f,), f.path) for f in group]
    return found


def _pattern(paths: list[Path]) -> Path | None:
    """The path of one file, or a pattern that these files have and no other file of their folder."""
    if len(paths) == 1:
        return paths[0]
    folder, names = paths[0].parent, [path.name for path in paths]
    head = _shared_head(names)
    tail = _shared_head([name[len(head) :][::-1] for name in names])[::-1]
    pattern = f"{glob.escape(head)}*{glob.escape(tail)}"
    return folder / pattern if {path.name for path in folder.glob(pattern)} == set(names) else None


def _shared_head(texts: list[str]) -> str:
    """The characters that all texts begin with."""
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))
    return "".join(letters[0] for letters in same)
