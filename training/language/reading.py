"""Sentiment and intent of customers' messages, predicted by the trained language model."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from shopsight.serving.progress import Progress
from shopsight.training.artifacts.trained_state import is_trained
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.consent import LANGUAGE, PROFILING, forbidden, permitted

_CUSTOMER = "customer_id"
_POLARITY = {"positive": 1.0, "negative": -1.0}


def read_messages(
    workspace: Workspace,
    as_of: datetime,
    progress: Progress,
    since: datetime | None = None,
) -> pl.DataFrame | None:
    """Predict tone and intent of customers' messages before `as_of`; None if no language model is trained.

    since: earlier messages are left out. Messages of people who refuse profiling, or the use of their texts,
    are not read.

    Returns message_id, tone Float64 (probability of positive minus that of negative, -1 to 1; null if the
    model has neither class) and intent String. Labels given by people are not used: the time of labelling is
    unknown and may be after `as_of`.
    """
    unread = forbidden(workspace, LANGUAGE)
    messages = permitted(workspace, "messages", PROFILING).filter(
        *written_before(as_of), ~pl.col(_CUSTOMER).is_in(unread)
    )
    if since is not None:
        messages = messages.filter(pl.col("timestamp") >= since)
    texts = messages.select("message_id", pl.col("text").fill_null("")).unique("message_id").collect()
    if texts.is_empty():
        return None
    if not is_trained(workspace, "language"):
        progress("no language model is trained: the features omit the tone and topics of messages")
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


def written_before(as_of: datetime) -> list[pl.Expr]:
    """Return the filters that keep messages of known customers before a time."""
    return [pl.col(_CUSTOMER).is_not_null(), pl.col("timestamp") < as_of]
