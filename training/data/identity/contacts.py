"""Names, mail addresses and phones of accounts, stored beside the intake to search texts for them.

Texts of other people may name a customer who requests erasure or access. The tables contain no contacts; this
file does, readable only by its owner (mode 600), and `forget` removes the customer from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from shopsight.serving.durable import private
from shopsight.training.data.cleaning.phrases import CONTACT_FIELDS

CONTACTS_FILE = "contacts.arrow"
SCHEMA: dict[str, Any] = dict.fromkeys(("source", "source_id", *CONTACT_FIELDS), pl.String)


def write_contacts(folder: Path, records: pl.DataFrame) -> None:
    """Replace the contacts by records (source, source_id, any of CONTACT_FIELDS), each once."""
    missing = [pl.lit(None, dtype=pl.String).alias(name) for name in SCHEMA if name not in records.columns]
    rows = records.with_columns(missing).select(pl.col(name).cast(pl.String) for name in SCHEMA)
    named = pl.any_horizontal(pl.col(name).is_not_null() for name in CONTACT_FIELDS)
    rows = rows.filter(named).unique().sort(list(SCHEMA))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    staged = folder / f".{CONTACTS_FILE}.new"
    with private(staged) as stream:
        rows.write_ipc(stream, compression="zstd")
    staged.replace(folder / CONTACTS_FILE)


def read_contacts(folder: Path) -> pl.DataFrame | None:
    """Return the contacts, None where no ingest wrote any since the intake was made."""
    path = folder / CONTACTS_FILE
    return pl.read_ipc(path, memory_map=False) if path.is_file() else None
