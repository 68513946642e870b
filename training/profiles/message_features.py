"""Features of customers' messages: their number, tone and intents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from shopsight.training.language.reading import written_before
from shopsight.training.profiles.measures import KEY

_TONES = ("review_sentiment", "message_sentiment")


def message_features(
    messages: pl.LazyFrame, read: pl.LazyFrame | None, *, as_of: datetime, intents: Sequence[str]
) -> pl.LazyFrame:
    """Return each customer's number of messages before `as_of`, and means of what the language model read.

    read: as language/reading.py returns it, or None; tone and intents are then missing. Reviews are the
    messages that came with a rating; the others have intents.
    """
    written = messages.filter(*written_before(as_of)).select(KEY, "message_id", "rating")
    counted = written.group_by(KEY).agg(num_messages=pl.len())
    names = [*_TONES, *(f"intent_share.{name}" for name in intents)]
    if read is None:
        return counted.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in names)
    is_review = pl.col("rating").is_not_null()
    asked = pl.when(~is_review)
    means = written.join(read, on="message_id", how="inner").group_by(KEY).agg(
        pl.when(is_review).then(pl.col("tone")).mean().alias("review_sentiment"),
        asked.then(pl.col("tone")).mean().alias("message_sentiment"),
        *[asked.then((pl.col("intent") == i).cast(pl.Float64)).mean().alias(f"intent_share.{i}")
          for i in intents],
    )  # fmt: skip
    return counted.join(means, on=KEY, how="left")


def intents_asked(messages: pl.LazyFrame, read: pl.LazyFrame, as_of: datetime) -> pl.LazyFrame:
    """Return the intent of each message before `as_of` that is not a review."""
    asked = messages.filter(*written_before(as_of), pl.col("rating").is_null())
    return asked.select("message_id").join(read, on="message_id").select("intent")
