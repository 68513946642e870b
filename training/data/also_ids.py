"""Further ids that a source states of its customers: of the device, the visitor or the old account."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from training.data.loading import Loaded

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


def joined_by_links(
    ids: pl.DataFrame, links: pl.DataFrame, apart: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> pl.DataFrame:
    """Return `ids` with one cluster for those that links join, and what joined them.

    ids: source, source_id, cluster (from 0), rule, score; apart: pairs of clusters that cannot be one person.
    Clusters that links would join with such a pair among them stay as they are.
    """
    of = ids.select("source", "source_id", "cluster")
    ends = links.join(of, on=["source", "source_id"]).join(
        of, left_on=["source", ALSO_ID], right_on=["source", "source_id"], suffix="_also"
    )
    if ends.is_empty():
        return ids
    left, right = ends["cluster"].to_numpy(), ends["cluster_also"].to_numpy()
    num = int(ids["cluster"].max()) + 1  # type: ignore[arg-type]
    graph = coo_array((np.ones(left.size, dtype=np.int8), (left, right)), shape=(num, num))
    label = connected_components(graph, directed=False)[1]
    torn = np.isin(label, label[apart[0]][label[apart[0]] == label[apart[1]]])
    first = np.full(num, num, dtype=np.int64)
    np.minimum.at(first, label, np.arange(num))
    cluster = np.where(torn, np.arange(num), first[label])
    joined = ends.filter(pl.Series(~torn[left] & (left != right)))
    joined = joined.select("source", pl.col(ALSO_ID).alias("source_id")).unique().with_columns(is_joined=True)
    ids = ids.with_columns(pl.Series("cluster", cluster[ids["cluster"].to_numpy()], dtype=pl.Int64))
    ids = ids.join(joined, on=["source", "source_id"], how="left", maintain_order="left")
    is_joined = pl.col("is_joined").fill_null(False)
    return ids.with_columns(
        pl.when(is_joined).then(pl.lit(ALSO_ID)).otherwise("rule").alias("rule"),
        pl.when(is_joined).then(1.0).otherwise("score").alias("score"),
    ).drop("is_joined")
