"""What is chosen on validation once the weights stand: how views are mixed, temperatures, thresholds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from serving.routing.texts import Texts, read_texts
from training.language.abstention import Costs, choose
from training.language.batches import in_order
from training.language.checkpoint import LanguageModel, as_tensors
from training.language.corpus import SEVERAL, Corpus
from training.language.metrics import micro_f1, surprise, temperature
from training.language.model import Encoder

_SHARES = np.arange(2, 19) / 20  # both views are always heard: a few messages may flatter one
_SHARPEST = 1e-3  # of the temperatures: a higher one would favour the view of the larger logits
_TOKENS = 4096


def calibrated(model: LanguageModel, corpus: Corpus) -> LanguageModel:
    """Return the model with the temperature of each head and the thresholds of its intents chosen anew."""
    several_intents = _has_several(corpus)
    model = replace(model, several_threshold=0.5 if several_intents else None)
    warmth = dict(model.temperature)
    for task, names in model.classes.items():
        if names:
            rows = corpus.rows_of("validation", task)
            logits = model.predict(corpus.texts_of(rows)).logits[task]
            truth = corpus.classes_of(task, rows)
            warmth[task] = temperature(logits, truth, each=task == "intent" and several_intents)
    model = replace(model, temperature=warmth)
    return _with_thresholds(model, corpus) if model.classes["intent"] else model


def mix_views(model: LanguageModel, corpus: Corpus) -> None:
    """Set the encoder's shares of its views, for each task, to those that validation finds likeliest."""
    for number, task in enumerate(model.encoder.num_classes):
        rows = corpus.rows_of("validation", task)
        texts = read_texts(model.tokenizer, corpus.texts_of(rows), model.config.max_tokens)
        views = _views(model.encoder, texts, task)
        each = task == "intent" and _has_several(corpus)
        model.encoder.body_share[number] = mixture(*views, corpus.classes_of(task, rows), each=each)


def _has_several(corpus: Corpus) -> bool:
    learned = np.flatnonzero(corpus.label["intent"] == SEVERAL)
    return bool(np.isin(learned, corpus.rows("train")).any())


def mixture(
    by_body: NDArray[np.float32], by_ngrams: NDArray[np.float32], truth: NDArray[np.bool_], *, each: bool
) -> float:
    """Return the share of the body that makes the truth likeliest, each mix at its own temperature.

    Logits float32 [n, classes] of each view; truth and each as in metrics.surprise. What one view says too
    surely, or knows no better than by chance, weighs less (Wolpert 1992). Of shares that cost a nat at most
    over all rows, the price of a parameter (Akaike 1974), the one nearest to half is taken: a few messages
    that both views get right say nothing of either.
    """
    if len(truth) == 0:
        return 0.5
    loss = np.array([_loss(by_body, by_ngrams, truth, share, each) for share in _SHARES])
    alike = _SHARES[loss <= loss.min() + 1.0]
    return float(alike[np.abs(alike - 0.5).argmin()])


def _loss(
    by_body: NDArray[np.float32],
    by_ngrams: NDArray[np.float32],
    truth: NDArray[np.bool_],
    share: float,
    each: bool,
) -> float:
    logits = (2 * (share * by_body + (1 - share) * by_ngrams)).astype(np.float32)
    warmth = temperature(logits, truth, each=each, least=_SHARPEST)
    return len(truth) * surprise(logits, truth, warmth, each=each)


def _views(encoder: Encoder, texts: Texts, task: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the logits of the body's head and of the n-grams for n texts, float32 [n, classes] each."""
    encoder.eval()
    said = np.empty((2, len(texts), encoder.num_classes[task]), dtype=np.float32)
    with torch.inference_mode():
        for chosen in in_order(texts.tokens, _TOKENS):
            token_id, length, code_point = as_tensors(texts.padded(chosen))
            said[0, chosen] = encoder.by_tokens(token_id, length)[task].numpy()
            said[1, chosen] = encoder.ngrams(token_id, code_point)[task].numpy()
    return said[0], said[1]


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
