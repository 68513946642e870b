"""What customers write: how much, in what tone, about what, as the trained language model reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import polars as pl

from shopsight.training.artifacts.trained_state import is_trained
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.consent import LANGUAGE, PROFILING, forbidden, permitted
from shopsight.training.profiles.measures import KEY

_POLARITY = {"positive": 1.0, "negative": -1.0}
_TONES = ("review_sentiment", "message_sentiment")


def read_messages(
    workspace: Workspace,
    as_of: datetime,
    progress: Callable[[str], None],
    since: datetime | None = None,
) -> pl.DataFrame | None:
    """Read customers' messages before `as_of` with the workspace's language model; None where there is none.

    since: those of earlier are left out. Messages of people who forbid profiling, or the reading of their
    language, are not read.

    Returns message_id, tone Float64 (probability of positive less that of negative, -1 to 1; null where the
    model knows neither) and intent String. Labels that people gave are not used: when they gave them is not
    recorded, and it may have been after `as_of`.
    """
    unread = forbidden(workspace, LANGUAGE)
    messages = permitted(workspace, "messages", PROFILING).filter(
        *_written_before(as_of), ~pl.col(KEY).is_in(unread)
    )
    if since is not None:
        messages = messages.filter(pl.col("timestamp") >= since)
    texts = messages.select("message_id", pl.col("text").fill_null("")).unique("message_id").collect()
    if texts.is_empty():
        return None
    if not is_trained(workspace, "language"):
        progress("no language model is trained: tone and topics of messages are left out of the features")
        return None
    from shopsight.training.language.checkpoint import load  # torch takes seconds to import

    said = load(workspace).predict(texts["text"].to_list())
    classes = said.classes.get("sentiment", ())
    tone = pl.lit(None, dtype=pl.Float64)
    if _POLARITY.keys() & set(classes):
        weights = [_POLARITY.get(name, 0.0) for name in classes]
        tone = pl.lit(pl.Series(said.probability("sentiment") @ weights))
    intent = pl.Series(said.labels("intent")) if "intent" in said.classes else None
    progress(f"read {texts.height:,} messages with the language model")
    return texts.select("message_id", tone=tone, intent=pl.lit(intent, dtype=pl.String))


def opinions(
    messages: pl.LazyFrame, read: pl.LazyFrame | None, *, as_of: datetime, intents: Sequence[str]
) -> pl.LazyFrame:
    """Count messages before `as_of`, and average what the language model read in them.

    read: as `read_messages` returns it, or None: tone and topics are then missing. Reviews are the messages
    that came with a rating; the others have intents.
    """
    written = messages.filter(*_written_before(as_of)).select(KEY, "message_id", "rating")
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
    """Return the intent of each message before `as_of` that is no review."""
    asked = messages.filter(*_written_before(as_of), pl.col("rating").is_null())
    return asked.select("message_id").join(read, on="message_id").select("intent")


def _written_before(as_of: datetime) -> list[pl.Expr]:
    return [pl.col(KEY).is_not_null(), pl.col("timestamp") < as_of]
