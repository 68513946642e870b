"""Evaluation of the trained model on held-out messages, with a linear baseline on the same texts."""

from __future__ import annotations

from typing import Any

import numpy as np

from shopsight.training.artifacts.snapshots import on_one_snapshot
from shopsight.training.artifacts.trained_state import write_metrics
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.evaluation.undefined import share, without_nan
from shopsight.training.language import abstention
from shopsight.training.language.answers import answering
from shopsight.training.language.answers import figures as answer_figures
from shopsight.training.language.calibration import several
from shopsight.training.language.checkpoint import LanguageModel, corpus_of, load_current
from shopsight.training.language.config import LanguageConfig
from shopsight.training.language.corpus import TASKS, Corpus, LanguageError
from shopsight.training.language.drift import drift
from shopsight.training.language.linear import fit_linear, fit_linear_sets
from shopsight.training.language.metrics import (
    accuracy,
    calibration_error,
    confused_pairs,
    macro_f1,
    micro_f1,
)

PROTOCOL = (
    "accuracy of the likeliest class on texts held out from training and from the choice of the model, "
    "95 % Wilson interval; no text lies in two splits; the linear model is TF-IDF n-grams with LinearSVC "
    "on the same training texts"
)


@on_one_snapshot
def evaluate(workspace: Workspace, config: LanguageConfig) -> dict[str, Any]:
    """Measure the trained model on the test split (validation if there is none) and save the metrics.

    Per task: accuracy, macro F1, expected calibration error, the most confused pairs, and the accuracy of the
    linear model. For intents also abstention on messages in and out of scope, answer retrieval, and drift
    (drift.py). Raises NotTrained if the tables changed since the training, LanguageError if the splits did.
    """
    state, model = load_current(workspace)
    if not _same_splits(model.config, config):
        raise LanguageError(
            f"{workspace.root}: the language model was trained with other splits than these, so that the "
            "held-out texts may include training texts; run 'shopsight train language' again"
        )
    corpus = corpus_of(workspace, model)
    figures: dict[str, Any] = {"protocol": PROTOCOL, "notes": list(corpus.notes)}
    for task in TASKS:
        if corpus.classes[task]:
            figures[task] = evaluate_task(model, corpus, task)
    if model.abstention is not None:
        figures["abstention"] = evaluate_abstention(model, corpus)
    if model.several_threshold is not None:
        figures["several_intents"] = evaluate_several(model, corpus)
    answers = answering(workspace, model)
    if answers is not None:
        figures["answers"] = answer_figures(answers.index, answers.rule, model, corpus)
    if model.abstention is not None:
        figures["drift"] = drift(workspace, model)
    figures = without_nan(figures, "no held-out message to measure it on")
    write_metrics(workspace, state, figures)
    return figures


def _same_splits(one: LanguageConfig, other: LanguageConfig) -> bool:
    names = ("seed", "validation_share", "test_share", "out_of_scope_labels")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def evaluate_task(model: LanguageModel, corpus: Corpus, task: str) -> dict[str, Any]:
    """Return the metrics of one head, and those of the linear model on the same texts."""
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
        "num_classes": len(model.classes[task]),
        "accuracy": accuracy(label, said),
        "macro_f1": macro_f1(label, said),
        "calibration_error": calibration_error(label == said, predicted.confidence(task)),
        "temperature": model.temperature[task],
        "confused": confused_pairs(label, said, model.classes[task]),
        "linear_accuracy": accuracy(label, by_linear),
        "linear_macro_f1": macro_f1(label, by_linear),
    }


def evaluate_abstention(model: LanguageModel, corpus: Corpus) -> dict[str, Any]:
    """Return the effect of the abstention threshold on the test split, or on validation if there is none."""
    assert model.abstention is not None
    split = "test" if len(corpus.rows("test", "intent")) else "validation"
    rows = corpus.rows(split, "intent")
    inside, outside = (
        model.predict(corpus.texts_of(chosen)) for chosen in (rows, corpus.out_of_scope(split))
    )
    costs = {"wrong_answer": model.config.wrong_answer_cost, "share": model.config.out_of_scope_share}
    right = inside.logits["intent"].argmax(1) == corpus.label["intent"][rows]
    scores = model.scope_score(inside), model.scope_score(outside)
    told = abstention.figures(model.abstention, scores[0], right, scores[1])
    return {"split": split, "costs": costs, **told}


def evaluate_several(model: LanguageModel, corpus: Corpus) -> dict[str, Any]:
    """Return multi-label metrics of the intents, over messages with one intent and with several.

    Micro F1 over pairs of message and intent, the share of messages with exactly the true intents, and the
    micro F1 of the linear model (one SVM per intent).
    """
    assert model.several_threshold is not None
    test = corpus.rows_of("test", "intent")
    split, rows = ("test", test) if len(test) else ("validation", corpus.rows_of("validation", "intent"))
    truth = corpus.classes_of("intent", rows)
    said = several(model.predict(corpus.texts_of(rows)).probability("intent"), model.several_threshold)
    learned = corpus.rows_of("train", "intent")
    linear = fit_linear_sets(corpus.texts_of(learned), corpus.classes_of("intent", learned))
    return {
        "split": split,
        "messages": len(rows),
        "messages_with_several": int((truth.sum(1) > 1).sum()),
        "threshold": model.several_threshold,
        "micro_f1": micro_f1(truth, said),
        "exactly_right": share((truth == said).all(1)),
        "linear_micro_f1": micro_f1(truth, linear.predict(corpus.texts_of(rows)).astype(np.bool_)),
    }
