"""Further ids that a source states of its customers: of the device, the visitor or the old account."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from shopsight.training.data.loading import Loaded

LINKS = {"source": pl.String, "source_id": pl.String, "also_id": pl.String}
ALSO_ID = "also_id"  # the field, and the rule of an account that it joined


def stated_links(loaded: list[Loaded]) -> tuple[pl.DataFrame, list[str]]:
    """Return which ids are one customer by their source's word (LINKS), and notes on what proves nothing.

    A further id that several ids of its source have, as a shared computer, links none of them.
    """
    parts = [pl.DataFrame(schema=LINKS)]
    for part in loaded:
        if part.source.kind == "customers" and ALSO_ID in part.rows.columns:
            stated = part.rows.with_columns(pl.lit(part.source.name).alias("source")).select(list(LINKS))
            parts.append(stated.drop_nulls().filter(pl.col("source_id") != pl.col(ALSO_ID)))
    links = pl.concat(parts).unique(maintain_order=True)
    shared = pl.len().over("source", ALSO_ID) > 1
    notes = [
        f'source "{name}": {count:,} further ids (also_id) belong to several customers and link none'
        for name, count in links.filter(shared).group_by("source", maintain_order=True)
        .agg(pl.col(ALSO_ID).n_unique()).iter_rows()
    ]  # fmt: skip
    return links.filter(~shared), notes


def linked_rows(ids: pl.DataFrame, links: pl.DataFrame) -> NDArray[np.int64]:
    """Return the rows of `ids` (source, source_id) that each link (LINKS) joins, [k, 2]."""
    of = ids.select("source", "source_id").with_row_index("row")
    ends = links.join(of, on=["source", "source_id"]).join(
        of, left_on=["source", ALSO_ID], right_on=["source", "source_id"], suffix="_also"
    )
    return ends.select(pl.col("row", "row_also").cast(pl.Int64)).to_numpy()


def joined(ids: pl.DataFrame, ends: NDArray[np.int64], apart: NDArray[np.int64], rule: str) -> pl.DataFrame:
    """Return `ids` with one cluster for those that `ends` join, and `rule` as what joined the second of each.

    ids: source, source_id, cluster (from 0), rule, score; ends: rows of `ids` [k, 2] that are one person;
    apart: rows [k, 2] that cannot be. Clusters that would be joined with such rows among them stay as they
    are.
    """
    if not ends.size:
        return ids
    before = ids["cluster"].to_numpy()
    left, right = before[ends[:, 0]], before[ends[:, 1]]
    num = int(before.max()) + 1
    graph = coo_array((np.ones(left.size, dtype=np.int8), (left, right)), shape=(num, num))
    label = connected_components(graph, directed=False)[1]
    enemies = label[before[apart]]
    torn = np.isin(label, enemies[enemies[:, 0] == enemies[:, 1], 0])
    first = np.full(num, num, dtype=np.int64)
    np.minimum.at(first, label, np.arange(num))
    cluster = np.where(torn, np.arange(num), first[label])
    is_joined = np.zeros(ids.height, dtype=bool)
    is_joined[ends[~torn[left] & (left != right), 1]] = True
    by = pl.Series(is_joined)
    return ids.with_columns(
        pl.Series("cluster", cluster[before], dtype=pl.Int64),
        pl.when(by).then(pl.lit(rule)).otherwise("rule").alias("rule"),
        pl.when(by).then(1.0).otherwise("score").alias("score"),
    )
