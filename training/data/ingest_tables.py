"""Writes the tables of one snapshot from clean rows and joined customers."""

from __future__ import annotations

from typing import Any

import polars as pl

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.snapshots import SNAPSHOT_FILE
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.cleaning.flags import counts_of, find_flags
from shopsight.training.data.cleaning.goods import fee_ids
from shopsight.training.data.consent_table import consents_table
from shopsight.training.data.customers import ACTIVE, active_times, customers_table
from shopsight.training.data.events import directory, events_table, exposures_table
from shopsight.training.data.identity.also_ids import ALSO_ID
from shopsight.training.data.identity.resolve import Resolution
from shopsight.training.data.loading import REFUSED, Loaded, mode
from shopsight.training.data.messages import answers_table, labels_table, messages_table
from shopsight.training.data.tables import SCHEMAS, SnapshotWriter, read_table


def write_tables(
    writer: SnapshotWriter,
    loaded: list[Loaded],
    items: pl.DataFrame,
    known_items: pl.Series | None,
    people: Resolution,
    key: PseudonymKey,
    engine: Any,
    defaults: dict[str, bool],
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Write every table; returns what was refused on the way (REFUSED), and what the rules found."""
    who, refused = directory(loaded, people.customers), [pl.DataFrame(schema=REFUSED)]
    active = [pl.DataFrame(schema=ACTIVE)]
    for bucket in events_table(loaded, who, known_items, key, engine):
        writer.add("events", bucket.table)
        refused += bucket.refused
        active.append(active_times(bucket.table))
    for bucket in exposures_table(loaded, who, known_items, key, engine):
        writer.add("exposures", bucket.table)
        refused += bucket.refused
    writer.add("customers", customers_table(people, pl.concat(active)))
    writer.add("identities", people.identities)
    writer.add("facts", people.facts)
    writer.add("items", items)
    messages = messages_table(loaded, who)
    writer.add("messages", messages)
    writer.add("labels", labels_table(loaded))
    writer.add("answers", answers_table(loaded, key))
    writer.add("consents", consents_table(loaded, who, defaults))
    flags, found_clocks = find_flags(writer.paths("events"), messages, fee_ids(items), engine)
    writer.add("flags", flags)
    return pl.concat(refused), {"flagged": counts_of(flags), "clocks": found_clocks}


def account_records(loaded: list[Loaded]) -> pl.DataFrame:
    """Every record of a person; those taken out of order lines are folded to one an id, the usual value.

    A list of payments names the shop too, in withdrawals and refunds: of such a source, only the ids of
    accepted rows are people.
    """
    buyers = {part.source.name: part.ids()["source_id"] for part in loaded if part.source.has("recipient_id")}
    parts = [pl.DataFrame(schema={"source": pl.String, "source_id": pl.String})]
    for part in loaded:
        if part.source.kind != "customers":
            continue
        rows = part.rows.filter(pl.col("source_id").is_not_null())
        if part.source.derived:
            if part.source.name in buyers:
                rows = rows.filter(pl.col("source_id").is_in(buyers[part.source.name].implode()))
            folded = rows.select(pl.col("source_id").unique())
            for name in (n for n in part.source.fields if n not in ("source_id", ALSO_ID)):
                folded = folded.join(mode(rows, "source_id", name), on="source_id", how="left")
            rows = folded
        else:
            rows = rows.drop("file", "row", "hi", "lo", "bucket", "channel")
        parts.append(rows.with_columns(pl.lit(part.source.name).alias("source")))
    return pl.concat(parts, how="diagonal")


def seen_ids(loaded: list[Loaded]) -> pl.DataFrame:
    """Every id in any file, and when it was first seen."""
    schema = {"source": pl.String, "source_id": pl.String, "first_seen": SCHEMAS["events"]["timestamp"]}
    parts = [pl.DataFrame(schema=schema), *(part.ids().select(list(schema)) for part in loaded)]
    return pl.concat(parts).group_by("source", "source_id").agg(pl.col("first_seen").min())


def items_of_events(loaded: list[Loaded], engine: Any) -> pl.Series:
    """Every item that an event names, once."""
    parts = [part.scan() for part in loaded if part.source.kind in ("events", "orders")]
    parts = [part.select("item_id") for part in parts if "item_id" in part.collect_schema().names()]
    ids = pl.concat([pl.LazyFrame(schema={"item_id": pl.String}), *parts]).unique().sort("item_id")
    return ids.collect(engine=engine)["item_id"]


def previous_identities(workspace: Workspace) -> pl.DataFrame:
    if not (workspace.tables / SNAPSHOT_FILE).is_file():
        return pl.DataFrame(schema=SCHEMAS["identities"])
    return read_table(workspace.tables, "identities")
