"""Identity resolution: one stable customer_id for every account of every channel, across runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

from shopsight.serving.pseudonym import KEY_FILE_VARIABLE, PseudonymKey, PseudonymKeyError
from shopsight.training.data.errors import IngestError
from shopsight.training.data.identity.also_ids import ALSO_ID, joined, linked_rows
from shopsight.training.data.identity.config import IdentityConfig
from shopsight.training.data.identity.customer_ids import log_identities, name_clusters
from shopsight.training.data.identity.linkage import SAID, Linkage, link
from shopsight.training.data.identity.linkage.normalise import PERSON_FIELDS
from shopsight.training.data.identity.review import joins_of
from shopsight.training.data.identity.rules import RULES, said_of
from shopsight.training.data.identity.survivorship import surviving_facts
from shopsight.training.data.tables import SCHEMAS

ACCOUNT_FIELDS = (*PERSON_FIELDS, "registered_at")
_KEY = ["source", "source_id"]
_UTC = SCHEMAS["identities"]["valid_from"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Resolution:
    """The identities table, who each raw id is, what is known of them, and the linkage behind it.

    identities, facts: as SCHEMAS has them; customers: (source, source_id as raw text, customer_id), for joins
    while rows are still raw; accounts: one record an account, in the order of `linkage`; joins: the joined
    pairs, the least certain first (identity_review.py).
    """

    identities: pl.DataFrame
    facts: pl.DataFrame
    customers: pl.DataFrame
    accounts: pl.DataFrame
    linkage: Linkage
    joins: pl.DataFrame
    num_customers: int
    num_merged: int
    num_split: int


def resolve(
    records: pl.DataFrame,
    seen: pl.DataFrame,
    previous: pl.DataFrame,
    key: PseudonymKey,
    config: IdentityConfig | None = None,
    retired: Collection[str] = (),
    rules: pl.DataFrame | None = None,
    links: pl.DataFrame | None = None,
) -> Resolution:
    """Join accounts that are one person and give every customer an id.

    records: (source, source_id, ACCOUNT_FIELDS), one or several rows an account; seen: (source, source_id,
    first_seen) of every id in any file. An id without an account is a customer of its own. `previous` is the
    identities table of the last run, or an empty one: an account's customer keeps the oldest id that it
    had, merges and splits close the old row (valid_to, merged_into) and open a new one. An id is given out
    once, and those of `retired` (the forgotten, whose rows are gone) never again. `rules` are what people
    said of pairs (identity_rules.py), `links` what sources say of further ids (also_ids.py). Pseudonyms
    that an earlier key made are renewed. Raises IngestError when `previous` was made with a key that this
    one did not come from by rotation, because no known customer could be found again.
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
    rules = pl.DataFrame(schema=RULES) if rules is None else rules
    linkage = link(accounts, config.linkage, said_of(rules, known))
    everyone = pl.concat([_clustered(known, linkage), _alone(ids, known, linkage)])
    everyone = _joined_by_word(everyone, linkage, rules, None if config.linkage.method == "off" else links)
    named = name_clusters(everyone, previous, as_of, retired)
    identities, merged, split = log_identities(named, previous, key, as_of)
    customers = named.select("source", "source_id", "customer_id")
    ours = known.join(customers, on=_KEY, how="left", maintain_order="left")
    joins = joins_of(linkage, ours.with_columns(pl.lit(key.key_id).alias("key_id")))
    owned = accounts.join(named.select(*_KEY, "pseudonym", "customer_id"), on=_KEY)
    facts = surviving_facts(owned.with_columns(pl.lit(key.key_id).alias("key_id")), config.survivorship)
    num_customers = customers["customer_id"].n_unique()
    return Resolution(
        identities, facts, customers, accounts, linkage, joins, num_customers, merged, split
    )  # fmt: skip


def _clustered(known: pl.DataFrame, linkage: Linkage) -> pl.DataFrame:
    """Ids with an account: their cluster, and what joined them to it."""
    return known.with_columns(
        pl.Series("cluster", linkage.clusters, dtype=pl.Int64),
        pl.Series("rule", linkage.rule.tolist(), dtype=pl.String),
        pl.Series("score", linkage.score, dtype=pl.Float64),
    )


def _alone(ids: pl.DataFrame, known: pl.DataFrame, linkage: Linkage) -> pl.DataFrame:
    """Ids without an account, each a cluster of its own."""
    lone = ids.join(known, on=_KEY, how="anti").sort("source", "pseudonym")
    start = int(linkage.clusters.max()) + 1 if linkage.clusters.size else 0
    return lone.with_columns(
        pl.int_range(start, start + lone.height, dtype=pl.Int64).alias("cluster"),
        pl.lit("events").alias("rule"),
        pl.lit(1.0).alias("score"),
    )


def _joined_by_word(
    everyone: pl.DataFrame, linkage: Linkage, rules: pl.DataFrame, links: pl.DataFrame | None
) -> pl.DataFrame:
    """Join ids by what people said of those without an account, and by what sources state."""
    said = said_of(rules, everyone)
    apart = np.concatenate((np.stack(linkage.apart, axis=1), said.apart))
    same = np.sort(said.same, axis=1)  # the id without an account, if there is one, is the second
    same = same[same[:, 1] >= linkage.clusters.size]  # the linkage has joined the others
    everyone = joined(everyone, same, apart, SAID)
    return everyone if links is None else joined(everyone, linked_rows(everyone, links), apart, ALSO_ID)


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
