"""The consents table: each customer's consent per purpose, and the defaults."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from shopsight.training.data.events import Directory, with_customer
from shopsight.training.data.loading import Loaded, as_table
from shopsight.training.data.tables import SCHEMAS


def consents_table(loaded: list[Loaded], people: Directory, defaults: Mapping[str, bool]) -> pl.DataFrame:
    """Build the consents table; a default is a row without customer_id and time.

    defaults: for each purpose, whether customers without a statement consent.
    """
    silent = [{"purpose": purpose, "allowed": allowed} for purpose, allowed in sorted(defaults.items())]
    frame = pl.DataFrame(silent, schema={"purpose": pl.String, "allowed": pl.Boolean})
    parts = [as_table(frame, "consents")]
    for part in loaded:
        if part.source.kind == "consents":
            parts.append(as_table(with_customer(part.rows, part.source.name, people), "consents"))
    return pl.concat(parts).unique().sort(list(SCHEMAS["consents"]))
