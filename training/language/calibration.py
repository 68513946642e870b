"""Choices made on validation after training: weights of the views, temperatures, abstention thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from shopsight.serving.routing.scope import BY_SIMILARITY, scored
from shopsight.serving.routing.texts import Texts, read_texts
from shopsight.training.language.abstention import Costs, choose
from shopsight.training.language.batches import in_order
from shopsight.training.language.checkpoint import LanguageModel, Prediction, as_tensors
from shopsight.training.language.corpus import SEVERAL, Corpus
from shopsight.training.language.metrics import micro_f1, nll, temperature
from shopsight.training.language.model import Encoder

_SHARES = np.arange(2, 19) / 20  # never 0 or 1: a small validation set may favour one view by chance
_SHARPEST = 1e-3  # lowest temperature: a higher bound would favour the view with the larger logits
_TOKENS = 4096
_MOST_KNOWN = 2_000  # a product of 2,000 rows with about 900 columns costs less than the encoder


def settled(model: LanguageModel, corpus: Corpus, more_known: Sequence[str] = ()) -> LanguageModel:
    """Return the model with everything that is chosen on validation; its encoder is changed in place.

    The encoder keeps known messages only if example similarity separates out-of-scope messages best.
    more_known: training texts of the intents that are not in the corpus.
    """
    mix_views(model, corpus)
    if model.classes["intent"]:
        remember(model, [*corpus.texts_of(_known_rows(corpus, model.config.seed)), *more_known])
    model = calibrated(model, corpus)
    if model.abstention is not None and model.abstention.score not in BY_SIMILARITY:
        remember(model, [])
    return model


def calibrated(model: LanguageModel, corpus: Corpus) -> LanguageModel:
    """Return the model with newly chosen temperatures of the heads and thresholds of the intents."""
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


def remember(model: LanguageModel, texts: Sequence[str]) -> None:
    """Replace the known messages of the encoder, for example similarity, by `texts`."""
    encoder = model.encoder.eval()
    read = read_texts(model.tokenizer, texts, model.config.max_tokens)
    known = torch.zeros(len(texts), encoder.example_similarity.known.shape[1])
    encoder.example_similarity.rarest.copy_(encoder.ngrams.rarity.max())
    with torch.no_grad():
        for chosen in in_order(read.tokens, _TOKENS):
            known[chosen] = encoder.compared(*as_tensors(read.padded(chosen)))
    encoder.example_similarity.keep(known)


def _known_rows(corpus: Corpus, seed: int) -> NDArray[np.int64]:
    """Return at most _MOST_KNOWN training messages, balanced over the intents."""
    rows = np.random.default_rng(seed).permutation(corpus.rows_of("train", "intent"))
    label = corpus.label["intent"][rows]
    order = np.argsort(label, kind="stable")
    _, first = np.unique(label[order], return_index=True)
    place = np.empty(len(rows), dtype=np.int64)  # among those of the same intent
    place[order] = np.arange(len(rows)) - np.repeat(first, np.diff(np.append(first, len(rows))))
    return np.sort(rows[np.argsort(place, kind="stable")[:_MOST_KNOWN]])


def mix_views(model: LanguageModel, corpus: Corpus) -> None:
    """Set the encoder's weight of its views, for each task, to the one of the lowest loss on validation."""
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
    """Return the weight of the body's logits, 0 to 1, that has the lowest loss; the n-grams get the rest.

    by_body, by_ngrams: logits float32 [n, classes] of each view; truth and each as in metrics.nll. Each mix
    is measured at its own temperature, so that an overconfident view gains nothing (stacking, Wolpert 1992).
    Among weights within one nat of the best over all rows, the penalty of one parameter (Akaike 1974), the
    one nearest to 0.5 is chosen: a small validation set cannot tell them apart.
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
    return len(truth) * nll(logits, truth, warmth, each=each)


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
    said, strange = (model.predict(corpus.texts_of(chosen)) for chosen in (rows, beyond))
    truth = corpus.classes_of("intent", rows)
    right = truth[np.arange(len(rows)), said.logits["intent"].argmax(1)]
    costs = Costs(model.config.wrong_answer_cost, model.config.out_of_scope_share)
    certainty = "confidence" if model.several_threshold is None else "likelihood"
    if model.several_threshold is not None:
        model = replace(model, several_threshold=_several_threshold(truth, said.probability("intent")))
    names = ["energy", certainty, *([f"similarity_{certainty}"] if model.encoder.is_compared else [])]
    warmth = model.temperature["intent"]
    scores = {name: (_score(name, said, warmth), _score(name, strange, warmth)) for name in names}
    return replace(model, abstention=choose(scores, right, warmth, costs))


def _score(name: str, said: Prediction, warmth: float) -> NDArray[np.float64]:
    return scored(name, said.logits["intent"], warmth, said.example_similarity)


def _several_threshold(truth: NDArray[np.bool_], likely: NDArray[np.float64]) -> float:
    """Return the probability from which an intent counts as one of several: the one of the best micro F1."""
    candidates = np.arange(0.05, 0.96, 0.05)
    scores = np.array([micro_f1(truth, several(likely, threshold)) for threshold in candidates])
    best = np.flatnonzero(scores == scores.max())
    return float(candidates[best[len(best) // 2]])


def several(likely: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Return the intents of each message, bool [n, intents]: the likeliest, and all from the threshold up.

    likely: probabilities, float64 [n, intents].
    """
    said: NDArray[np.bool_] = likely >= threshold
    said[np.arange(len(said)), likely.argmax(1)] = True
    return said
