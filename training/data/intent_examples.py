"""The examples of `learn-intents`, stored so that every later training uses them.

They may be texts of customers, so that they are masked as messages are, readable only by their owner, and
covered by `forget`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from shopsight.serving.durable import private
from shopsight.training.data.cleaning.masking import mask_personal_data

SCHEMA: dict[str, Any] = {"text": pl.String, "intent": pl.String}
_FILE = "intents.parquet"


def read_taught(folder: Path) -> pl.DataFrame:
    """Return the examples, SCHEMA, in the order in which they were given; empty where nothing was taught."""
    path = folder / _FILE
    return pl.read_parquet(path) if path.is_file() else pl.DataFrame(schema=SCHEMA)


def with_examples(taught: pl.DataFrame, examples: pl.DataFrame) -> pl.DataFrame:
    """Return the examples with more of them; a text that was given before has the intent of the last time."""
    more = examples.select(mask_personal_data(pl.col("text")), "intent")
    return pl.concat([taught, more]).unique("text", keep="last", maintain_order=True)


def write_taught(folder: Path, taught: pl.DataFrame) -> None:
    """Replace the examples in one step (folder mode 700, file mode 600)."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    staged = folder / f".{_FILE}.new"
    with private(staged) as stream:
        taught.write_parquet(stream, compression="zstd")
    staged.replace(folder / _FILE)
