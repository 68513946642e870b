"""Data files by which the routers find a customer: sorted ids and pseudonyms in fixed-width matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import save_file

from shopsight.serving.routing.people import CUSTOMERS_FILE, IDENTITIES_FILE
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.tables import scan_table


class ManyKeys(ValueError):  # noqa: N818 - reads as what happened
    """Current identities were hashed with more than one key, and a server holds one."""


def id_matrix(ids: Sequence[str]) -> NDArray[np.uint8]:
    """Return ids as uint8 [n, width], UTF-8 padded with zeros; the order of the ids is kept."""
    encoded = [value.encode() for value in ids]
    width = max((len(value) for value in encoded), default=1)
    return np.array(encoded, dtype=f"S{width}").view(np.uint8).reshape(len(encoded), width)


def write_people(
    folder: Path, workspace: Workspace, customer_ids: pl.Series, arrays: Mapping[str, NDArray[Any]]
) -> str:
    """Write customers.safetensors and identities.safetensors into a router's folder.

    customer_ids: sorted, one a row of each array. Identities that are merged or no longer valid are left
    out; those of customers without a row point to -1. Returns the id of the key that hashed the
    identities, "" where there are none; raises ManyKeys when there are several.
    """
    # safetensors writes an array's memory as it lies, so that a transposed one would come back scrambled
    packed = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file({"customer_id": id_matrix(customer_ids.to_list()), **packed}, folder / CUSTOMERS_FILE)
    rows = customer_ids.to_frame("customer_id").with_row_index("row")
    current = pl.col("valid_to").is_null() & pl.col("merged_into").is_null()
    identities = (
        scan_table(workspace.tables, "identities")
        .filter(current)
        .join(rows.lazy(), on="customer_id", how="left")
        .select("source_id", "key_id", pl.col("row").cast(pl.Int64).fill_null(-1))
        .sort("source_id")
        .unique("source_id", keep="first", maintain_order=True)
        .collect()
    )
    keys = identities["key_id"].drop_nulls().unique().sort().to_list()
    if len(keys) > 1:
        raise ManyKeys(f"identities are hashed with keys {', '.join(keys)}; ingest again under one key")
    pseudonym = id_matrix(identities["source_id"].to_list())
    save_file(
        {"pseudonym": pseudonym, "customer_row": identities["row"].to_numpy()}, folder / IDENTITIES_FILE
    )
    return keys[0] if keys else ""
