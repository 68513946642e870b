"""Adds intents from a few examples: the encoder is frozen, only heads and n-grams train, in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from shopsight.serving.progress import Progress
from shopsight.serving.routing.texts import Texts, read_texts
from shopsight.training.artifacts.trained_state import training
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.intent_examples import read_taught, with_examples, write_taught
from shopsight.training.language.calibration import settled
from shopsight.training.language.checkpoint import (
    FAMILY,
    LanguageModel,
    as_tensors,
    corpus_of,
    load_current,
    save,
)
from shopsight.training.language.corpus import Corpus, LanguageError
from shopsight.training.language.model import Encoder

Labels = NDArray[np.int64]

_EACH = 20  # examples of every intent in a batch, so that known intents are not forgotten
_STEPS, _BATCH, _RATE = 120, 256, 5e-3
MOST_LOSS = 0.01  # default of the accuracy that known intents may lose


@dataclass(frozen=True)
class Examples:
    """Texts and the intent of each."""

    texts: list[str]
    intents: list[str]

    def at(self, rows: Sequence[int]) -> Examples:
        """Those of some rows."""
        return Examples([self.texts[i] for i in rows], [self.intents[i] for i in rows])


def read_examples(path: Path) -> Examples:
    """Read a CSV or JSON Lines file with the columns text and intent; raises LanguageError naming the row."""
    try:
        table = pl.read_ndjson(path) if path.suffix == ".jsonl" else pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LanguageError(f"{path}: not readable as CSV or JSON Lines ({error})") from error
    missing = {"text", "intent"} - set(table.columns)
    if missing:
        raise LanguageError(
            f"{path}: no column '{min(missing)}'; a file of examples has the columns text and intent"
        )
    rows = table.select(pl.col("text", "intent").cast(pl.String).str.strip_chars())
    for number, (text, intent) in enumerate(rows.iter_rows(), start=2 if path.suffix != ".jsonl" else 1):
        if not text or not intent:
            raise LanguageError(
                f"{path}, line {number}: text and intent must both be given; complete the row"
            )
    if rows.is_empty():
        raise LanguageError(f"{path}: holds no example; write a row a message: text and intent")
    return Examples(rows["text"].to_list(), rows["intent"].to_list())


def learn(workspace: Workspace, examples: Examples, most_loss: float, progress: Progress) -> dict[str, Any]:
    """Add the intents of `examples` to the workspace's trained model; returns metrics of old and new intents.

    most_loss: how much the validation accuracy of the known intents may fall, 0 to 1; if it falls more,
    LanguageError is raised and the model is unchanged. The examples are kept, masked as messages are
    (training/data/intent_examples.py), and later trainings use them. The new intents are measured by
    two-fold cross-validation on their examples. Raises NotTrained if the tables changed since the training,
    whose messages are read again.
    """
    with training(workspace, FAMILY, "learn-intents") as run:
        learned, figures = _learned(workspace, examples, most_loss, progress)
        table = pl.DataFrame({"text": examples.texts, "intent": examples.intents})
        write_taught(workspace.taught, with_examples(read_taught(workspace.taught), table))
        save(run, learned)
        return figures


def _learned(
    workspace: Workspace, examples: Examples, most_loss: float, progress: Progress
) -> tuple[LanguageModel, dict[str, Any]]:
    began = time.monotonic()
    _, model = load_current(workspace)
    corpus = corpus_of(workspace, model)
    figures: dict[str, Any] = {"new_intents": _cross_validated(model, corpus, examples)}
    learned = extended(model, corpus, examples)
    before, after = (_validation_accuracy(one, corpus) for one in (model, learned))
    counts = {name: examples.intents.count(name) for name in sorted(set(examples.intents))}
    for name in (name for name, count in counts.items() if count == 1):
        progress(f"intent '{name}' has a single example: too few to learn")
    figures |= {
        "examples": counts,
        "known_validation_accuracy_before": before,
        "known_validation_accuracy_after": after,
        "seconds": round(time.monotonic() - began, 1),
    }
    if before - after > most_loss:
        raise LanguageError(
            f"the known intents would fall from {before:.4f} to {after:.4f} on validation, more than "
            f"{most_loss:g}; nothing was changed: give clearer examples, or allow it with --most-loss"
        )
    return learned, figures


def taught_again(
    model: LanguageModel, corpus: Corpus, taught: pl.DataFrame, progress: Progress
) -> LanguageModel:
    """Return a newly trained model after the fine-tuning of `learn-intents` on its saved examples.

    Training includes these examples, but a few have little weight among thousands of messages. If the known
    intents would lose more than MOST_LOSS of their validation accuracy, the trained model is returned.
    """
    if taught.is_empty() or not model.classes["intent"]:
        return model
    examples = Examples(taught["text"].to_list(), taught["intent"].to_list())
    before = _validation_accuracy(model, corpus)
    learned = extended(model, corpus, examples)
    after = _validation_accuracy(learned, corpus)
    names = ", ".join(sorted(set(examples.intents)))
    if before - after > MOST_LOSS:
        progress(
            f"intents {names}: not added again, the accuracy of the others would fall "
            f"from {before:.4f} to {after:.4f}"
        )
        return model
    progress(f"intents {names}: added again from {len(examples.texts)} examples")
    return learned


def extended(model: LanguageModel, corpus: Corpus, examples: Examples) -> LanguageModel:
    """Return the model with the intents of `examples` added; examples of a known intent train it further."""
    names = model.classes["intent"]
    classes = (*names, *sorted(set(examples.intents) - set(names)))
    encoder = _widened(model, len(classes))
    texts, labels = _replayed(model, corpus, examples, classes)
    _see(encoder, read_texts(model.tokenizer, examples.texts, model.config.max_tokens))
    _train(encoder, texts, labels, model)
    changed = replace(model, encoder=encoder.eval(), classes={**model.classes, "intent": classes})
    corpus = replace(corpus, classes=changed.classes)
    return settled(changed, corpus, examples.texts)


def _widened(model: LanguageModel, num_classes: int) -> Encoder:
    """Return the same encoder with more intents, whose new weights are zero."""
    old = model.encoder
    counts = {task: len(names) for task, names in model.classes.items()}
    encoder = Encoder(model.config, old.body, counts | {"intent": num_classes})
    state = encoder.state_dict()
    for name, value in old.state_dict().items():
        if name.startswith("example_similarity."):
            continue  # calibration.py sets the known messages again
        if state[name].shape == value.shape:
            state[name] = value.clone()
        elif name.startswith("ngrams."):  # its columns are those of all tasks, one after the other
            parts = torch.split(value, [count for count in counts.values() if count], dim=-1)
            tasks = [task for task, count in counts.items() if count]
            wide = [
                _grown(p, -1, num_classes) if t == "intent" else p for t, p in zip(tasks, parts, strict=True)
            ]
            state[name] = torch.cat(wide, dim=-1)
        else:
            state[name] = _grown(value, 0, num_classes)
    encoder.load_state_dict(state)
    return encoder


def _grown(value: Tensor, dim: int, size: int) -> Tensor:
    """Return `value`, extended to `size` with zeros along one dimension."""
    shape = list(value.shape)
    shape[dim] = size - shape[dim]
    return torch.cat([value, value.new_zeros(shape)], dim=dim)


def _replayed(
    model: LanguageModel, corpus: Corpus, examples: Examples, classes: tuple[str, ...]
) -> tuple[Texts, Labels]:
    """Sample the same number of examples of every intent; new ones are repeated as needed."""
    rng = np.random.default_rng(model.config.seed)
    rows = corpus.rows("train", "intent")
    label = corpus.label["intent"][rows]
    texts, labels = [], []
    for number, name in enumerate(classes):
        given = [t for t, intent in zip(examples.texts, examples.intents, strict=True) if intent == name]
        own = rows[label == number]
        given += corpus.texts_of(rng.permutation(own)[: max(0, _EACH - len(given))])
        if not given:  # its examples were erased
            continue
        texts += [given[i % len(given)] for i in range(_EACH)]
        labels += [number] * _EACH
    return read_texts(model.tokenizer, texts, model.config.max_tokens), np.array(labels, dtype=np.int64)


def _see(encoder: Encoder, texts: Texts) -> None:
    """Give n-grams that training never saw the weight of the rarest ones."""
    rarity = encoder.ngrams.rarity
    token_id, _, code_point = as_tensors(texts.padded(range(len(texts))))
    seen = torch.unique(encoder.ngrams.ids(token_id, code_point))
    unknown = seen[(rarity[seen] == 0) & (seen > 0)]
    rarity[unknown] = rarity.max()


def _train(encoder: Encoder, texts: Texts, labels: Labels, model: LanguageModel) -> None:
    torch.manual_seed(model.config.seed)
    rng = np.random.default_rng(model.config.seed)
    loss_of: Callable[[Tensor, Tensor], Tensor] = partial(
        functional.cross_entropy, label_smoothing=model.config.label_smoothing
    )
    if model.several_threshold is not None:
        loss_of = _each_alone
    encoder.requires_grad_(False)
    taught = [*encoder.heads["intent"].parameters(), encoder.ngrams.table.weight, encoder.ngrams.bias]
    for parameter in taught:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(taught, lr=_RATE, weight_decay=0.0)
    padded = texts.padded(range(len(texts)))
    token_id, length, code_point = as_tensors(padded)
    features = _features(encoder, token_id, length)
    encoder.train()
    for step in range(_STEPS):
        rows = torch.from_numpy(rng.choice(len(labels), min(_BATCH, len(labels)), replace=False))
        label = torch.from_numpy(labels)[rows]
        views = encoder.said_of(features[rows]), encoder.ngrams(token_id[rows], code_point[rows])
        loss = torch.stack([loss_of(view["intent"], label) for view in views]).sum()
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 - step / _STEPS)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _each_alone(logits: Tensor, label: Tensor) -> Tensor:
    """Return the loss of a model whose messages may have several intents (targets.py)."""
    wanted = functional.one_hot(label, logits.shape[1]).to(logits.dtype)
    return functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / len(label)


def _features(encoder: Encoder, token_id: Tensor, length: Tensor) -> Tensor:
    encoder.eval()
    with torch.no_grad():
        chunks = zip(torch.split(token_id, 256), torch.split(length, 256), strict=True)
        parts = [encoder.features(tokens, lengths) for tokens, lengths in chunks]
    return torch.cat(parts)


def _cross_validated(model: LanguageModel, corpus: Corpus, examples: Examples) -> dict[str, Any]:
    """Return, for each new intent, the accuracy on its examples under two-fold cross-validation."""
    place: dict[str, int] = {}
    half = []
    for intent in examples.intents:
        half.append(place.get(intent, 0) % 2)
        place[intent] = place.get(intent, 0) + 1
    found: dict[str, list[bool]] = {name: [] for name in place if name not in model.classes["intent"]}
    for side in (0, 1):
        taught = examples.at([i for i, h in enumerate(half) if h != side])
        asked = examples.at([i for i, h in enumerate(half) if h == side and place[examples.intents[i]] > 1])
        if not taught.texts or not asked.texts:
            continue
        said = extended(model, corpus, taught).predict(asked.texts).labels("intent")
        for intent, answer in zip(asked.intents, said, strict=True):
            if intent in found:
                found[intent].append(intent == answer)
    recall = {name: float(np.mean(hits)) if hits else None for name, hits in found.items()}
    return {name: {"cross_validated_recall": value} for name, value in recall.items()}


def _validation_accuracy(model: LanguageModel, corpus: Corpus) -> float:
    rows = corpus.rows("validation", "intent")
    said = model.predict(corpus.texts_of(rows)).logits["intent"].argmax(1)
    return float((said == corpus.label["intent"][rows]).mean())
