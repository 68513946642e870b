"""Labelled and unlabelled messages of a workspace; equal texts are always in the same split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.consent import LANGUAGE, permitted
from shopsight.training.data.intent_examples import read_taught
from shopsight.training.data.tables import scan_table
from shopsight.training.language.config import LanguageConfig
from shopsight.training.language.tokenizer import normalizer

TASKS = ("intent", "sentiment")
SPLITS = ("train", "validation", "test")
NO_LABEL = -1
OUT_OF_SCOPE = -2
SEVERAL = -3
UNSPLIT = -1

Labels = NDArray[np.int64]


class LanguageError(ValueError):
    """The workspace's messages and labels cannot be used for training; the message names the remedy."""


@dataclass(frozen=True)
class Corpus:
    """Messages as parallel arrays; labels index `classes[task]`, or are NO_LABEL, OUT_OF_SCOPE or SEVERAL.

    texts: n messages; label[task]: int64 [n]; split: int64 [n], an index of SPLITS or UNSPLIT.
    notes: what was left out and why, as text. several: the intents of each row that is labelled SEVERAL.
    author: int64 [n], equal for texts of one customer; empty if authors are unknown.
    """

    texts: list[str]
    classes: dict[str, tuple[str, ...]]
    label: dict[str, Labels]
    split: Labels
    notes: tuple[str, ...]
    several: dict[int, tuple[int, ...]] = field(default_factory=dict)
    author: Labels = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def rows(self, split: str, task: str | None = None) -> Labels:
        """Return the row numbers of one split; with a task, only those labelled with one of its classes."""
        chosen = self.split == SPLITS.index(split)
        if task is not None:
            chosen &= self.label[task] >= 0
        return np.flatnonzero(chosen)

    def out_of_scope(self, *splits: str) -> Labels:
        """Return the row numbers that are labelled out of scope, in the given splits."""
        inside = np.isin(self.split, [SPLITS.index(s) for s in splits])
        return np.flatnonzero(inside & (self.label["intent"] == OUT_OF_SCOPE))

    def rows_of(self, split: str, task: str) -> Labels:
        """Return the row numbers of one split that are labelled with one or several classes of the task."""
        rows = self.rows(split)
        return rows[np.flatnonzero((self.label[task][rows] >= 0) | (self.label[task][rows] == SEVERAL))]

    def classes_of(self, task: str, rows: Labels) -> NDArray[np.bool_]:
        """Return the classes of the given rows in a task, bool [rows, classes]."""
        label = self.label[task][rows]
        found = np.zeros((len(rows), len(self.classes[task])), dtype=np.bool_)
        single = np.flatnonzero(label >= 0)
        found[single, label[single]] = True
        for at in np.flatnonzero(label == SEVERAL):
            found[at, list(self.several[int(rows[at])])] = True
        return found

    def numbered_as(self, classes: dict[str, tuple[str, ...]]) -> Corpus:
        """Return the corpus with labels that index `classes`, those of a model.

        A row of a class that is not in `classes` becomes NO_LABEL.
        """
        label, several = dict(self.label), dict(self.several)
        for task, names in self.classes.items():
            place = {name: index for index, name in enumerate(classes[task])}
            moved = np.array([place.get(name, NO_LABEL) for name in names], dtype=np.int64)
            inside = label[task] >= 0
            label[task] = label[task].copy()
            label[task][inside] = moved[label[task][inside]]
            if task == "intent":
                several = {row: tuple(int(moved[one]) for one in wanted) for row, wanted in several.items()}
        unknown = [row for row, wanted in several.items() if NO_LABEL in wanted]
        label["intent"][unknown] = NO_LABEL
        for row in unknown:
            del several[row]
        return replace(self, classes=classes, label=label, several=several)

    def texts_of(self, rows: Labels) -> list[str]:
        """Return the texts of the given rows."""
        return [self.texts[row] for row in rows]


def read_corpus(workspace: Workspace, config: LanguageConfig) -> Corpus:
    """Read messages, labels and ratings of the current snapshot, and the examples of `learn-intents`.

    These examples are all in the training split. Without a sentiment label, a rating of at most 2 is
    negative, 3 neutral, 4 or more positive. Raises LanguageError if no task has labels of at least two
    classes.
    """
    notes: list[str] = []
    frame = _messages(workspace, notes)
    for task in TASKS:
        frame = frame.join(_labels(workspace, task, config, notes), on="message_id", how="left")
    frame = _with_rating_sentiment(frame)
    frame = _with_taught(workspace, _with_splits(frame, config, notes))
    classes, label = {}, {}
    several: dict[int, tuple[int, ...]] = {}
    for task in TASKS:
        classes[task], label[task] = _classes(frame, task, config, notes)
    if classes["intent"]:
        several = _several(frame, classes["intent"], label["intent"])
    if not any(len(names) > 1 for names in classes.values()):
        raise LanguageError(
            f"no labels to learn from in {workspace.tables}: the messages need an intent or a sentiment with "
            "at least two classes; ingest a source of kind 'labels', or map the column `intent` of a "
            "'messages' source"
        )
    split = frame["held"].to_numpy().astype(np.int64)
    authors = author_codes(frame["customer_id"])
    return Corpus(frame["text"].to_list(), classes, label, split, tuple(notes), several, authors)


def author_codes(customers: pl.Series) -> Labels:
    """Return an integer for the author of each text, int64 [n]; a text without a customer has its own."""
    known = customers.rank("dense").cast(pl.Int64)
    return known.fill_null(-1 - pl.int_range(customers.len(), eager=True)).to_numpy().astype(np.int64)


def _messages(workspace: Workspace, notes: list[str]) -> pl.DataFrame:
    columns = ["message_id", "text", "rating", "customer_id"]
    frame = permitted(workspace, "messages", LANGUAGE).select(columns).collect().sort("message_id")
    frame = _with_keys(frame)
    kept = frame.filter(pl.col("key") != "").unique("message_id", keep="first", maintain_order=True)
    if kept.height < frame.height:
        notes.append(f"{frame.height - kept.height} messages without text or with a repeated id left out")
    return kept


def _with_keys(frame: pl.DataFrame) -> pl.DataFrame:
    """Add `key`, the text as the model reads it: equal keys are one text."""
    normalize = normalizer().normalize_str
    keys = [normalize(text or "") for text in frame["text"].to_list()]
    return frame.with_columns(pl.Series("key", keys, dtype=pl.String))


def _with_taught(workspace: Workspace, frame: pl.DataFrame) -> pl.DataFrame:
    """Add the examples of `learn-intents` as training messages; they replace messages of the same text."""
    taught = _with_keys(read_taught(workspace.taught)).unique("key", keep="last", maintain_order=True)
    if taught.is_empty():
        return frame
    again = pl.col("key").is_in(taught["key"].implode())
    frame = frame.with_columns(
        pl.when(~again).then("intent"),
        pl.when(~again).then("intents"),
        pl.when(again).then(UNSPLIT).otherwise("held").alias("held"),
    )
    rows = taught.select(
        "text", "key", "intent", pl.concat_list("intent").alias("intents"), pl.lit(0, pl.Int64).alias("held")
    )
    return pl.concat([frame, rows], how="diagonal")


def _labels(workspace: Workspace, task: str, config: LanguageConfig, notes: list[str]) -> pl.DataFrame:
    rows = scan_table(workspace.tables, "labels").filter(pl.col("task") == task).collect()
    unknown = rows.filter(~pl.col("split").is_in(SPLITS) & pl.col("split").is_not_null())
    if unknown.height:
        raise LanguageError(
            f"labels of message {unknown['message_id'][0]}: split '{unknown['split'][0]}' is none of "
            f"{', '.join(SPLITS)}; correct the source, or leave the split empty"
        )
    several = pl.col(f"{task}s")
    frame = (
        rows.filter(pl.col("label").is_not_null())
        .group_by("message_id", maintain_order=True)
        .agg(
            pl.col("label").unique().sort().alias(f"{task}s"), pl.col("split").first().alias(f"{task}_split")
        )
    )
    outside = list(config.out_of_scope_labels)
    odd = several.list.len() > 1
    if task == "intent":  # a message may have several intents, but not an intent and "none"
        odd &= several.list.eval(pl.element().is_in(outside)).list.any()
    left_out = frame.filter(odd).height
    if left_out:
        notes.append(f"{left_out} messages left out of {task}: their labels contradict each other")
    return frame.filter(~odd).with_columns(several.list.first().alias(task))


def _with_rating_sentiment(frame: pl.DataFrame) -> pl.DataFrame:
    rating = pl.col("rating")
    said = (
        pl.when(rating <= 2).then(pl.lit("negative")).when(rating < 4).then(pl.lit("neutral"))
        .when(rating >= 4).then(pl.lit("positive"))
    )  # fmt: skip
    return frame.with_columns(pl.coalesce("sentiment", said).alias("sentiment"))


def _with_splits(frame: pl.DataFrame, config: LanguageConfig, notes: list[str]) -> pl.DataFrame:
    """Add `held`: the split of each labelled text, the most held-out one where equal texts disagree."""
    held = np.full(frame.height, UNSPLIT, dtype=np.int64)
    first, second = (frame[task].is_not_null().to_numpy() for task in TASKS)
    for task, labelled in ((TASKS[0], first), (TASKS[1], ~first & second)):
        rows = np.flatnonzero(labelled)
        if len(rows):
            held[rows] = _split_of(frame[rows.tolist()], task, config)
    frame = frame.with_columns(pl.Series("held", held))
    furthest = pl.col("held").max().over("key")
    leaked = frame.filter((pl.col("held") >= 0) & (pl.col("held") < furthest)).height
    if leaked:
        notes.append(f"{leaked} labelled texts left out: the same text is held out for validation or test")
    return frame.with_columns(
        pl.when(pl.col("held") == furthest).then(pl.col("held")).otherwise(UNSPLIT).alias("held")
    )


def _split_of(frame: pl.DataFrame, task: str, config: LanguageConfig) -> Labels:
    given = frame[f"{task}_split"].replace_strict(
        list(SPLITS), list(range(len(SPLITS))), default=None, return_dtype=pl.Int64
    )
    test_share = config.test_share if given.null_count() == len(given) else 0.0
    split = given.fill_null(0).to_numpy().astype(np.int64).copy()
    if (split == 1).any():
        return split
    train = np.flatnonzero(split == 0)
    split[train] = _carved(frame[train.tolist()], task, config.validation_share, test_share, config.seed)
    return split


def _carved(frame: pl.DataFrame, task: str, validation: float, test: float, seed: int) -> Labels:
    """Split by a seeded hash of the text within each class, so that splits do not depend on row order."""
    texts = frame.group_by("key", maintain_order=True).agg(pl.col(task).first())
    digest = [hashlib.blake2b(f"{seed}:{k}".encode(), digest_size=8).hexdigest() for k in texts["key"]]
    rank = pl.col("digest").rank("ordinal").over(task)
    share = (rank - 0.5) / pl.len().over(task)
    enough = pl.len().over(task) >= 3  # fewer examples than splits: all of them are for learning
    chosen = (
        pl.when(~enough).then(0).when(share <= validation).then(1).when(share <= validation + test).then(2)
        .otherwise(0).alias("chosen")
    )  # fmt: skip
    texts = texts.with_columns(pl.Series("digest", digest, dtype=pl.String)).with_columns(chosen)
    return (
        frame.join(texts.select("key", "chosen"), on="key", how="left", maintain_order="left")["chosen"]
        .to_numpy()
        .astype(np.int64)
    )


def _classes(
    frame: pl.DataFrame, task: str, config: LanguageConfig, notes: list[str]
) -> tuple[tuple[str, ...], Labels]:
    outside = set(config.out_of_scope_labels) if task == "intent" else set()
    column = "intents" if task == "intent" else task
    said = frame.select("held", pl.col(column).alias(task))
    said = (said.explode(task, empty_as_null=True) if task == "intent" else said).drop_nulls(task)
    learned = said.filter(pl.col("held") == 0)[task]
    classes = tuple(sorted(set(learned.to_list()) - outside))
    number = {name: index for index, name in enumerate(classes)} | dict.fromkeys(outside, OUT_OF_SCOPE)
    label = np.array([number.get(name, NO_LABEL) for name in frame[task].to_list()], dtype=np.int64)
    strange = sorted(set(said.filter(pl.col("held") > 0)[task].to_list()) - set(number))
    if strange:
        notes.append(f"{task}s without a training example left out: {', '.join(strange)}")
    counts = learned.value_counts().filter(pl.col("count") == 1)
    if counts.height and classes:
        rare = ", ".join(sorted(set(counts[task].to_list()) - outside))
        notes.append(f"{task}s with a single example, too few to learn: {rare}") if rare else None
    if len(classes) == 1:
        notes.append(f"no {task} head: every label is '{classes[0]}'")
        classes, label = (), np.where(label >= 0, NO_LABEL, label)
    return classes, label


def _several(frame: pl.DataFrame, classes: tuple[str, ...], label: Labels) -> dict[int, tuple[int, ...]]:
    """Return the intents of rows that have more than one, and label these rows SEVERAL in place."""
    number = {name: index for index, name in enumerate(classes)}
    several = {}
    for row in np.flatnonzero((frame["intents"].list.len().fill_null(0) > 1).to_numpy()):
        names = frame["intents"][int(row)].to_list()
        known = all(name in number for name in names)
        label[row] = SEVERAL if known else NO_LABEL
        if known:
            several[int(row)] = tuple(number[name] for name in names)
    return several
