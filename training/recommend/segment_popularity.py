"""Popularity of items in each segment of customers."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.training.recommend.interactions import Catalogue
from shopsight.training.recommend.shop import Shop

_OVERALL_SHARE = 0.1  # of the overall popularity, mixed in where a segment has bought little


def by_segment(shop: Shop, segment: NDArray[np.int64], before: datetime) -> NDArray[np.float32]:
    """Return each segment's popularity of every item, float32 [segments, items].

    segment: int64 [customers], -1 for none. A segment's own counts, scaled to a sum of 1, are added to a
    tenth of the overall ones, which rank the items that the segment has no events with.
    """
    overall = shop.popularity(before)
    own = shop.popularity(before, segment)
    own /= np.maximum(own.sum(axis=1, keepdims=True), np.float32(1e-9))
    return own + np.float32(_OVERALL_SHARE) * overall / max(float(overall.sum()), 1e-9)


def best(popularity: NDArray[np.float32], num_popular: int) -> NDArray[np.int32]:
    """Return the most popular items of each row, int32 [rows, num_popular]; -1 after the last one above 0."""
    num = min(num_popular, popularity.shape[1])
    order = np.argsort(-popularity, axis=1, kind="stable")[:, :num]
    return np.where(np.take_along_axis(popularity, order, axis=1) > 0, order, -1).astype(np.int32)


def segment_of(known: Catalogue, assigned: pl.DataFrame) -> NDArray[np.int32]:
    """Return each customer's segment, int32 [customers], -1 for one without.

    assigned: customer_id and segment, as the profiles' checkpoint has them.
    """
    joined = known.customer_ids.to_frame("customer_id").join(
        assigned.select("customer_id", "segment"), on="customer_id", how="left", maintain_order="left"
    )
    return joined["segment"].fill_null(-1).cast(pl.Int32).to_numpy()
