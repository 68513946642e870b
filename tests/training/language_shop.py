"""A tiny shop's messages in two languages, labelled, as tables of a workspace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from shopsight.training.artifacts.trained_state import opened, training
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.tables import SCHEMAS, write_tables
from shopsight.training.language.checkpoint import FAMILY, FORMAT_VERSION, MODEL_FILE
from shopsight.training.language.config import LanguageConfig

PHRASES = {
    "order_status": ["where is my {}", "track the {} please", "我的{}到哪里了", "查一下{}的物流"],
    "return_item": ["i want to return the {}", "send back my {}", "我要退{}", "{}可以退货吗"],
    "product_question": ["is the {} waterproof", "what is the {} made of", "{}是什么材质", "{}防水吗"],
}
ITEMS = ["jacket", "shoes", "lamp", "phone", "kettle", "mug", "chair", "bag", "外套", "鞋子", "台灯", "手机"]
MOODS = {"positive": "thank you 😀 太好了", "negative": "this is awful 😡 太差了", "neutral": "hello 你好"}

SMALL = LanguageConfig(
    vocab_size=600,
    max_tokens=32,
    buckets=(8, 32),
    width=32,
    heads=2,
    epochs=8,
    batch_size=32,
    least_steps=0,
    learning_rate=1e-2,
    num_threads=1,
)


def messages(num: int = 480, seed: int = 0) -> list[tuple[str, str, str, str]]:
    """Return rows of (message id, text, intent, sentiment)."""
    rng = np.random.default_rng(seed)
    intents, moods = list(PHRASES), list(MOODS)
    rows = []
    for i in range(num):
        intent, mood = intents[rng.integers(3)], moods[rng.integers(3)]
        phrase = PHRASES[intent][rng.integers(4)].format(ITEMS[rng.integers(len(ITEMS))])
        rows.append((f"m{i:04d}", f"{phrase} {MOODS[mood]} {rng.integers(1000)}", intent, mood))
    return rows


def write_shop(
    root: Path,
    texts: Sequence[tuple[str, str | None]] | Sequence[tuple[str, str | None, float | None]],
    labels: Sequence[tuple[str, str, str, str | None]],
) -> Workspace:
    """Write texts (message id, text[, rating]) and labels (message id, task, label, split) as tables."""
    frame = {
        "message_id": [t[0] for t in texts],
        "text": [t[1] for t in texts],
        "rating": [t[2] if len(t) > 2 else None for t in texts],
    }
    table = pl.DataFrame({n: frame.get(n, [None] * len(texts)) for n in SCHEMAS["messages"]}, strict=False)
    write_tables(
        root / "tables",
        {
            "messages": table.cast(SCHEMAS["messages"]),
            "labels": pl.DataFrame(list(labels), schema=SCHEMAS["labels"], orient="row"),
        },
    )
    return Workspace(root)


def small_shop(root: Path, *, sentiment: bool = True) -> Workspace:
    """Write the shop with every message labelled by intent, and by sentiment unless told otherwise."""
    rows = messages()
    labels: list[tuple[str, str, str, str | None]] = [(m, "intent", i, None) for m, _, i, _ in rows]
    if sentiment:
        labels += [(m, "sentiment", s, None) for m, _, _, s in rows]
    return write_shop(root, [(m, t) for m, t, _, _ in rows], labels)


def weights(workspace: Workspace) -> Path:
    """The file of the trained model."""
    with opened(workspace, FAMILY, FORMAT_VERSION) as state:
        return state.folder / MODEL_FILE


def pretend_trained(workspace: Workspace) -> Path:
    """Leave a trained state whose file is empty, for a test that brings its own reader; returns the file."""
    with training(workspace, FAMILY) as run, run.saved(FORMAT_VERSION, {}, {}, {}) as folder:
        (folder / MODEL_FILE).touch()
    return folder / MODEL_FILE
