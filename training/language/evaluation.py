"""How good the trained model is on held-out messages, with a linear model on the same texts beside it."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.contract import write_json
from training.language.checkpoint import LanguageModel, Prediction, checkpoint_path, load
from training.language.config import LanguageConfig
from training.language.corpus import TASKS, Corpus, read_corpus
from training.language.linear import fit_linear
from training.language.metrics import (
    accuracy,
    area_under_roc,
    calibration_error,
    confused_pairs,
    energy,
    macro_f1,
)
from training.workspace import Workspace

PROTOCOL = (
    "accuracy of the likeliest class on texts held out from training and from the choice of the model, "
    "95 % Wilson interval; no text lies in two splits; the linear model is TF-IDF n-grams with LinearSVC "
    "on the same training texts"
)


def evaluate(workspace: Workspace, config: LanguageConfig) -> dict[str, Any]:
    """Measure the trained model on the test split (validation where there is none) and keep the figures.

    Per task: accuracy, macro F1, expected calibration error, the pairs confused most, the linear model's
    accuracy. Where messages are labelled out of scope: how well energy and confidence tell them apart.
    """
    corpus = read_corpus(workspace, config)
    model = load(workspace)
    figures: dict[str, Any] = {"protocol": PROTOCOL, "notes": list(corpus.notes)}
    for task in TASKS:
        if corpus.classes[task]:
            figures[task] = evaluate_task(model, corpus, task)
    if len(corpus.out_of_scope("validation", "test")):
        figures["out_of_scope"] = abstention(model, corpus)
    write_json(checkpoint_path(workspace).with_name("metrics.json"), figures)
    return figures


def evaluate_task(model: LanguageModel, corpus: Corpus, task: str) -> dict[str, Any]:
    """Return the figures of one head, and the linear model's on the same texts."""
    split = "test" if len(corpus.rows("test", task)) else "validation"
    rows = corpus.rows(split, task)
    label = corpus.label[task][rows]
    predicted = model.predict(corpus.texts_of(rows))
    said = predicted.logits[task].argmax(1).astype(np.int64)
    learned = corpus.rows("train", task)
    linear = fit_linear(corpus.texts_of(learned), corpus.label[task][learned])
    by_linear = linear.predict(corpus.texts_of(rows)).astype(np.int64)
    return {
        "split": split,
        "num_classes": len(corpus.classes[task]),
        "accuracy": accuracy(label, said),
        "macro_f1": macro_f1(label, said),
        "calibration_error": calibration_error(label == said, predicted.confidence(task)),
        "temperature": model.temperature[task],
        "confused": confused_pairs(label, said, corpus.classes[task]),
        "linear_accuracy": accuracy(label, by_linear),
        "linear_macro_f1": macro_f1(label, by_linear),
    }


def abstention(model: LanguageModel, corpus: Corpus) -> dict[str, Any]:
    """Return how well scores of the intent head tell messages in scope from those out of it, on test."""
    split = "test" if len(corpus.out_of_scope("test")) else "validation"
    inside = model.predict(corpus.texts_of(corpus.rows(split, "intent")))
    outside = model.predict(corpus.texts_of(corpus.out_of_scope(split)))
    scores = {"energy": _energies, "confidence": _confidences}
    return {
        "split": split,
        "num_out_of_scope": len(outside.logits["intent"]),
        **{f"{name}_auroc": area_under_roc(of(inside), of(outside)) for name, of in scores.items()},
    }


def _energies(predicted: Prediction) -> np.ndarray[Any, np.dtype[np.float64]]:
    return energy(predicted.logits["intent"], predicted.temperature["intent"])


def _confidences(predicted: Prediction) -> np.ndarray[Any, np.dtype[np.float64]]:
    return predicted.confidence("intent")
