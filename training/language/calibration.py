"""What is chosen on validation once the weights stand: temperatures, and thresholds of the intents."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.language.abstention import Costs, choose
from training.language.checkpoint import LanguageModel
from training.language.corpus import SEVERAL, Corpus
from training.language.metrics import micro_f1, temperature


def calibrated(model: LanguageModel, corpus: Corpus) -> LanguageModel:
    """Return the model with the temperature of each head and the thresholds of its intents chosen anew."""
    learned = np.flatnonzero(corpus.label["intent"] == SEVERAL)
    has_several = bool(np.isin(learned, corpus.rows("train")).any())
    model = replace(model, several_threshold=0.5 if has_several else None)
    warmth = dict(model.temperature)
    for task, names in model.classes.items():
        if names:
            rows = corpus.rows_of("validation", task)
            logits = model.predict(corpus.texts_of(rows)).logits[task]
            truth = corpus.classes_of(task, rows)
            warmth[task] = temperature(logits, truth, each=task == "intent" and has_several)
    model = replace(model, temperature=warmth)
    return _with_thresholds(model, corpus) if model.classes["intent"] else model


def _with_thresholds(model: LanguageModel, corpus: Corpus) -> LanguageModel:
    rows, beyond = corpus.rows_of("validation", "intent"), corpus.out_of_scope("validation")
    said = model.predict(corpus.texts_of(rows))
    inside, outside = said.logits["intent"], model.predict(corpus.texts_of(beyond)).logits["intent"]
    truth = corpus.classes_of("intent", rows)
    right = truth[np.arange(len(rows)), inside.argmax(1)]
    costs = Costs(model.config.wrong_answer_cost, model.config.out_of_scope_share)
    scores = ("energy", "confidence")
    if model.several_threshold is not None:
        scores = ("energy", "likelihood")
        model = replace(model, several_threshold=_several_threshold(truth, said.probability("intent")))
    rule = choose(inside, right, outside, model.temperature["intent"], costs, scores)
    return replace(model, abstention=rule)


def _several_threshold(truth: NDArray[np.bool_], likely: NDArray[np.float64]) -> float:
    """How likely an intent must be to be told as one of several: what gives the best micro F1."""
    candidates = np.arange(0.05, 0.96, 0.05)
    scores = np.array([micro_f1(truth, several(likely, threshold)) for threshold in candidates])
    best = np.flatnonzero(scores == scores.max())
    return float(candidates[best[len(best) // 2]])


def several(likely: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Return which intents a message has, bool [n, intents]: the likeliest, and all from the threshold up."""
    said: NDArray[np.bool_] = likely >= threshold
    said[np.arange(len(said)), likely.argmax(1)] = True
    return said
