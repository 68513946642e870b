"""Who is who: one stable customer_id for every account of every channel, across runs and re-runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from serving.pseudonym import KEY_FILE_VARIABLE, PseudonymKey, PseudonymKeyError
from training.data.identity_config import IdentityConfig
from training.data.linkage import Linkage, link
from training.data.linkage.normalise import PERSON_FIELDS
from training.data.sources import IngestError
from training.data.survivorship import surviving_facts
from training.data.tables import SCHEMAS

ACCOUNT_FIELDS = (*PERSON_FIELDS, "registered_at")
_KEY = ["source", "source_id"]
_UTC = SCHEMAS["identities"]["valid_from"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Resolution:
    """The identities table, who each raw id is, what is known of them, and the linkage behind it.

    identities, facts: as SCHEMAS has them; customers: (source, source_id as raw text, customer_id), for joins
    while rows are still raw; accounts: one record an account, in the order of `linkage`.
    """

    identities: pl.DataFrame
    facts: pl.DataFrame
    customers: pl.DataFrame
    accounts: pl.DataFrame
    linkage: Linkage
    num_customers: int
    num_merged: int
    num_split: int


def resolve(
    records: pl.DataFrame,
    seen: pl.DataFrame,
    previous: pl.DataFrame,
    key: PseudonymKey,
    config: IdentityConfig | None = None,
) -> Resolution:
    """Join accounts that are one person and give every customer an id.

    records: (source, source_id, ACCOUNT_FIELDS), one or several rows an account; seen: (source, source_id,
    first_seen) of every id in any file. An id without an account is a customer of its own. `previous` is the
    identities table of the last run, or an empty one: an account's customer keeps the oldest id that it
    had, merges and splits close the old row (valid_to, merged_into) and open a new one. Pseudonyms that an
    earlier key made are renewed. Raises IngestError when `previous` was made with a key that this one did
    not come from by rotation, because no known customer could be found again.
    """
    config = config or IdentityConfig()
    previous = renew(previous, key)
    accounts = fold_accounts(records)
    times = pl.concat([seen["first_seen"].cast(_UTC), accounts["registered_at"].alias("first_seen")])
    as_of = times.max() or _EPOCH
    assert isinstance(as_of, datetime)
    ids = _all_ids(accounts, seen, key)
    known = ids.join(accounts.select(*_KEY), on=_KEY, how="semi").sort("source", "pseudonym")
    accounts = known.select(*_KEY).join(accounts, on=_KEY, how="left", maintain_order="left")
    linkage = link(accounts, config.linkage)
    clustered = known.with_columns(
        pl.Series("cluster", linkage.clusters, dtype=pl.Int64),
        pl.Series("rule", linkage.rule.tolist(), dtype=pl.String),
        pl.Series("score", linkage.score, dtype=pl.Float64),
    )
    lone = ids.join(known, on=_KEY, how="anti").sort("source", "pseudonym")
    start = int(linkage.clusters.max()) + 1 if linkage.clusters.size else 0
    lone = lone.with_columns(
        pl.int_range(start, start + lone.height, dtype=pl.Int64).alias("cluster"),
        pl.lit("events").alias("rule"),
        pl.lit(1.0).alias("score"),
    )
    named = _name_clusters(pl.concat([clustered, lone]), previous, as_of)
    identities, merged, split = _log(named, previous, key, as_of)
    customers = named.select("source", "source_id", "customer_id")
    owned = accounts.join(named.select(*_KEY, "pseudonym", "customer_id"), on=_KEY)
    facts = surviving_facts(owned.with_columns(pl.lit(key.key_id).alias("key_id")), config.survivorship)
    return Resolution(
        identities, facts, customers, accounts, linkage, customers["customer_id"].n_unique(), merged, split
    )


def fold_accounts(records: pl.DataFrame) -> pl.DataFrame:
    """One record an account: of each field the latest registered value that is not empty."""
    missing = [
        pl.lit(
            None, dtype=pl.Date if n == "birth_date" else _UTC if n == "registered_at" else pl.String
        ).alias(n)
        for n in ACCOUNT_FIELDS
        if n not in records.columns
    ]
    frame = records.with_columns(missing).select(*_KEY, *ACCOUNT_FIELDS)
    if frame.select(_KEY).is_unique().all():
        return frame
    frame = frame.sort(*_KEY, "registered_at", *PERSON_FIELDS, descending=[False, False, True, *[False] * 13])
    firsts = [pl.col(n).drop_nulls().first() for n in ACCOUNT_FIELDS if n != "registered_at"]
    return frame.group_by(_KEY, maintain_order=True).agg(*firsts, pl.col("registered_at").min())


def renew(identities: pl.DataFrame, key: PseudonymKey) -> pl.DataFrame:
    """Identities, or facts, with every pseudonym as `key` makes it; raises IngestError when it cannot."""
    parts = [identities.clear()]
    for (key_id,), part in identities.group_by("key_id"):
        try:
            pseudonyms = key.renewed(part["source_id"], str(key_id))
        except PseudonymKeyError as error:
            raise IngestError(
                f"the workspace's identities were made with key {key_id}, this key is {key.key_id} and did "
                f"not come from it by 'shopsight key rotate'; use that key or a later one "
                f"(${KEY_FILE_VARIABLE}), or another workspace"
            ) from error
        renewed = pl.Series("source_id", pseudonyms, dtype=pl.String)
        parts.append(part.with_columns(renewed, pl.lit(key.key_id).alias("key_id")))
    return pl.concat(parts)


def _all_ids(accounts: pl.DataFrame, seen: pl.DataFrame, key: PseudonymKey) -> pl.DataFrame:
    """Every (source, source_id) once, with its pseudonym and since when it is known."""
    opened = accounts.select(*_KEY, pl.col("registered_at").alias("first_seen"))
    ids = pl.concat([opened, seen.select(*_KEY, pl.col("first_seen").cast(_UTC))])
    ids = ids.group_by(_KEY).agg(pl.col("first_seen").min())
    parts = [ids.clear().with_columns(pl.lit(None, dtype=pl.String).alias("pseudonym"))]
    for (source,), part in ids.group_by("source"):
        pseudonyms = key.pseudonyms(str(source), part["source_id"])
        parts.append(part.with_columns(pl.Series("pseudonym", pseudonyms, dtype=pl.String)))
    return pl.concat(parts)


def _name_clusters(ids: pl.DataFrame, previous: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Give each cluster the oldest customer_id that it holds, or the next free one."""
    active = previous.filter(pl.col("valid_to").is_null()).select(
        "source", pl.col("source_id").alias("pseudonym"), pl.col("customer_id").alias("old_id"), "valid_from"
    )
    account = pl.col("source") + ":" + pl.col("pseudonym")
    ids = ids.join(active, on=["source", "pseudonym"], how="left").with_columns(account.alias("account"))
    held = ids.filter(pl.col("old_id").is_not_null()).group_by("cluster", "old_id").agg(
        pl.len(), pl.col("valid_from").min(), pl.col("account").min()
    )  # fmt: skip
    # After a split the larger part keeps the id; of several ids that met, the oldest stays.
    order = held.sort("old_id", "len", "valid_from", "account", descending=[False, True, False, False])
    owned = order.group_by("old_id", maintain_order=True)
    kept = owned.first().group_by("cluster").agg(pl.col("old_id").min().alias("customer_id"))
    ids = ids.join(kept, on="cluster", how="left")
    fresh = (
        ids.filter(pl.col("customer_id").is_null())
        .group_by("cluster")
        .agg(pl.col("first_seen").fill_null(as_of).min(), pl.col("account").min())
        .sort("first_seen", "account")
    )
    taken = pl.concat([previous["customer_id"], previous["merged_into"].drop_nulls()])
    start = int(taken.str.slice(1).cast(pl.Int64).max() or 0) + 1 if taken.len() else 1  # type: ignore[arg-type]
    numbers = pl.int_range(start, start + fresh.height, eager=True).cast(pl.String).str.zfill(10)
    new_ids = fresh.select("cluster", (pl.lit("c") + numbers).alias("new_id"))
    ids = ids.join(new_ids, on="cluster", how="left")
    return ids.with_columns(pl.coalesce("customer_id", "new_id").alias("customer_id")).drop("new_id")


def _log(
    named: pl.DataFrame, previous: pl.DataFrame, key: PseudonymKey, as_of: datetime
) -> tuple[pl.DataFrame, int, int]:
    """The identities table: present rows, rows that a merge or split closed, and what was closed before."""
    moved = pl.col("old_id").is_not_null() & (pl.col("old_id") != pl.col("customer_id"))
    since = (
        pl.when(moved).then(pl.lit(as_of, dtype=_UTC))
        .otherwise(pl.coalesce("valid_from", "first_seen", pl.lit(as_of, dtype=_UTC)))
    )  # fmt: skip
    present = named.select(
        "source",
        pl.col("pseudonym").alias("source_id"),
        pl.lit(key.key_id).alias("key_id"),
        "customer_id",
        "rule",
        "score",
        since.alias("valid_from"),
        pl.lit(None, dtype=_UTC).alias("valid_to"),
        pl.lit(None, dtype=pl.String).alias("merged_into"),
    )
    changes = named.filter(moved).select(
        "source", pl.col("pseudonym").alias("source_id"), pl.col("customer_id").alias("new_id")
    )
    here = present.select("source", "source_id")
    old = previous.filter(pl.col("valid_to").is_null())
    lives_on = pl.col("customer_id").is_in(named["customer_id"].unique().implode())
    closed = old.join(changes, on=["source", "source_id"], how="inner").with_columns(
        pl.lit(as_of, dtype=_UTC).alias("valid_to"),
        pl.when(~lives_on).then("new_id").alias("merged_into"),
    )
    absent = old.join(here, on=["source", "source_id"], how="anti")
    past = previous.filter(pl.col("valid_to").is_not_null())
    schema = list(SCHEMAS["identities"])
    parts = [frame.select(schema) for frame in (present, closed, absent, past)]
    identities = pl.concat(parts).sort("source", "source_id", "valid_from", "customer_id")
    merged = closed.filter(pl.col("merged_into").is_not_null())["customer_id"].n_unique()
    split = closed.filter(pl.col("merged_into").is_null())["customer_id"].n_unique()
    return identities, merged, split
