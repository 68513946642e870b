"""Suppress recommendations to customers with a recent complaint or return."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.training.data.consent import PROFILING, permitted
from shopsight.training.language.reading import read_messages
from shopsight.training.recommend.shop import Shop


def suppressions(shop: Shop) -> tuple[list[str], NDArray[np.uint8]]:
    """Return the reasons that suppress recommendations, and a code for each customer, uint8 [customers].

    The code is the index of the customer's reason plus 1, or 0 without a reason. Reasons count for
    `config.suppression.days` before the end of the data; the latest one is used. Intents are read by the
    trained language model, and are left out without one.
    """
    suppression, end = shop.config.suppression, shop.windows.end
    names = [*suppression.events, *suppression.intents]
    begin = end - timedelta(days=suppression.days)
    happened = shop.events.filter(
        pl.col("event").is_in(suppression.events), pl.col("timestamp") >= begin, pl.col("timestamp") < end
    ).select("customer_id", "timestamp", what="event")
    parts = [happened.collect()]
    if suppression.intents and suppression.days:
        read = read_messages(shop.workspace, end, lambda _: None, since=begin)
        if read is not None and read["intent"].null_count() < read.height:
            written = permitted(shop.workspace, "messages", PROFILING).select(
                "message_id", "customer_id", "timestamp"
            )
            asked = read.filter(pl.col("intent").is_in(suppression.intents)).lazy()
            joined = asked.join(written, on="message_id").select("customer_id", "timestamp", what="intent")
            parts.append(joined.collect())
    latest = pl.concat(parts).sort("timestamp", "what").group_by("customer_id").agg(pl.col("what").last())
    code = {name: place for place, name in enumerate(names, start=1)}
    rows = shop.known.customer_ids.to_frame("customer_id").join(
        latest, on="customer_id", how="left", maintain_order="left"
    )
    found = rows["what"].replace_strict(code, default=0, return_dtype=pl.UInt8).fill_null(0).to_numpy()
    return names, np.where(shop.personalised, found, np.uint8(0)).astype(np.uint8)
