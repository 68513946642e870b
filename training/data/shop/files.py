"""Raw files that grow chunk by chunk, and truth files beside them."""

from __future__ import annotations

import io
import re
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

# Private use characters stand for damage that a data frame cannot hold; on disk they become that damage.
BROKEN_UTF8 = "\ue000"
EXTRA_COLUMN = "\ue001"
CUT_LINE = "\ue002"
_CUT = re.compile(CUT_LINE.encode() + rb"[^\n]*")


def append_rows(path: Path, frame: pl.DataFrame) -> None:
    """Append a frame to a .csv (header first) or .jsonl file, damage marks turned into real damage."""
    buffer = io.BytesIO()
    if path.suffix == ".csv":
        frame.write_csv(buffer, include_header=not path.exists())
        extra = b",surplus"
    else:
        frame.write_ndjson(buffer)
        extra = b'"'
    content = buffer.getvalue()
    content = content.replace(BROKEN_UTF8.encode(), b"\xc3\x28").replace(EXTRA_COLUMN.encode(), extra)
    with path.open("ab") as stream:
        stream.write(_CUT.sub(b"", content))


class TruthFiles:
    """Parquet files of one folder that are written a row group a chunk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, pq.ParquetWriter] = {}

    def append(self, name: str, frame: pl.DataFrame) -> None:
        """Append a frame to `<name>.parquet`; the first one sets the schema."""
        table = frame.to_arrow()
        if name not in self._writers:
            path = self._folder / f"{name}.parquet"
            self._writers[name] = pq.ParquetWriter(path, table.schema, compression="zstd")
        self._writers[name].write_table(table)

    def close(self) -> None:
        """Finish every file; a file that was not closed is not readable."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
