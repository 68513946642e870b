"""The messages, labels and answers tables: all texts, masked, with their labels."""

from __future__ import annotations

import polars as pl

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.data.cleaning.masking import language_of, mask_personal_data
from shopsight.training.data.digests import Digests, hash_columns, keyed_ids
from shopsight.training.data.events import Directory, with_customer
from shopsight.training.data.loading import Loaded, as_table
from shopsight.training.data.tables import SCHEMAS

_TASKS = ("intent", "sentiment")


def prepare_messages(loaded: list[Loaded], key: PseudonymKey) -> None:
    """Mask every text, tell its language, and make message ids unique.

    Within a source a second text under the same id is refused as a duplicate (the earlier in time stays); ids
    that two sources share are told apart by the source's name.
    """
    parts = [p for p in loaded if p.source.kind in ("reviews", "messages")]
    for part in parts:
        rows = part.rows.with_columns(mask_personal_data(pl.col("text")))
        if "language" not in rows.columns:
            rows = rows.with_columns(pl.lit(None, dtype=pl.String).alias("language"))
        language = pl.coalesce(pl.col("language").str.to_lowercase(), language_of(pl.col("text")))
        rows = rows.with_columns(language.alias("language"))
        if "message_id" not in rows.columns:
            digests = Digests(rows["hi"].to_numpy(), rows["lo"].to_numpy())
            rows = rows.with_columns(keyed_ids(digests, key, "message").alias("message_id"))
        order = [n for n in ("timestamp", "hi") if n in rows.columns]
        # By content, not by place in the file, so that the order of rows does not matter.
        by_time = rows.select(pl.int_range(pl.len()).sort_by(order).alias("at")).to_series()
        first = rows["message_id"].gather(by_time).is_first_distinct()
        part.rows = rows.with_columns(pl.Series("first", first).gather(by_time.arg_sort()))
        part.refuse(~pl.col("first"), "message_id", "duplicate")
        part.rows = part.rows.drop("first")
    _tell_apart(parts)


def messages_table(loaded: list[Loaded], people: Directory) -> pl.DataFrame:
    """Gather reviews and messages, one row a text, sorted by id; call prepare_messages first."""
    parts = [pl.DataFrame(schema=SCHEMAS["messages"])]
    for part in loaded:
        if part.source.kind in ("reviews", "messages"):
            rows = with_customer(part.rows, part.source.name, people)
            parts.append(as_table(rows, "messages"))
    return pl.concat(parts).sort("message_id")


def labels_table(loaded: list[Loaded]) -> pl.DataFrame:
    """Gather label columns of messages and reviews, and labels sources: one row a message and task."""
    parts = [pl.DataFrame(schema=SCHEMAS["labels"])]
    for part in loaded:
        rows = part.rows
        if part.source.kind == "labels":
            parts.append(as_table(rows, "labels"))
        if part.source.kind not in ("reviews", "messages"):
            continue
        for task in _TASKS:
            if task in rows.columns:
                named = rows.with_columns(pl.lit(task).alias("task"), pl.col(task).alias("label"))
                parts.append(as_table(named.filter(pl.col("label").is_not_null()), "labels"))
    return pl.concat(parts).unique().sort("message_id", "task", "label", "split")


def answers_table(loaded: list[Loaded], key: PseudonymKey) -> pl.DataFrame:
    """Gather questions with their answers, and policies, which have none."""
    parts = [pl.DataFrame(schema=SCHEMAS["answers"])]
    for part in loaded:
        if part.source.kind == "answers":
            rows = part.rows
            if "answer_id" not in rows.columns:
                columns = [n for n in ("question", "answer", "language") if n in rows.columns]
                ids = keyed_ids(hash_columns(rows, columns, "answer"), key, "answer")
                rows = rows.with_columns(ids.alias("answer_id"))
            if "language" not in rows.columns:
                rows = rows.with_columns(language_of(pl.col("answer")).alias("language"))
            parts.append(as_table(rows, "answers"))
    return pl.concat(parts).sort("answer_id", "language", "question", "answer")


def _tell_apart(parts: list[Loaded]) -> None:
    ids = [p.rows.select("message_id", pl.lit(i).alias("part")) for i, p in enumerate(parts)]
    if len(ids) < 2:
        return
    shared = pl.concat(ids).unique().group_by("message_id").len().filter(pl.col("len") > 1)["message_id"]
    for number, part in enumerate(parts):
        same_name = sum(other.source.name == part.source.name for other in parts)
        prefix = part.source.name + (f"-{part.source.kind}-{number}" if same_name > 1 else "")
        own = pl.when(pl.col("message_id").is_in(shared.implode())).then(
            pl.lit(prefix + ":") + pl.col("message_id")
        )
        part.rows = part.rows.with_columns(own.otherwise("message_id").alias("message_id"))
