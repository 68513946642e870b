"""Golden requests: fixed texts with the trained model's answers, which a served release must reproduce."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from shopsight.serving.contract import Golden, GoldenTensor
from shopsight.serving.routing.scope import Abstention
from shopsight.serving.routing.texts import read_texts
from shopsight.training.language.answers import Answering, messages_of
from shopsight.training.language.calibration import several
from shopsight.training.language.checkpoint import LanguageModel, Prediction, as_tensors

_QUESTIONS = 6  # of the shop's own answers
LOGIT_TOLERANCE = 1e-4  # logits reach 10, and processors round differently
_TOO_CLOSE = 10 * LOGIT_TOLERANCE

# Written for this purpose; no customer said any of them.
GOLDEN_TEXTS = (
    "Where is my order? It was due last Monday.",
    "I'd like to send these shoes back, they are too small 😞",
    "thank you, the blue jacket is lovely!!",
    "how do i chnage my delivery adress",
    "我的快递什么时候到？",
    "质量很好，非常满意，下次还会再来！",
    "怎么申请退款",
    "WHAT IS YOUR REFUND POLICY",
    "ok",
    "?",
)


def understand_goldens(model: LanguageModel, answers: Answering | None) -> list[Golden]:
    """Return each fixed text with the trained model's predictions and the shop's answer.

    A text is left out if its two likeliest classes or answers are nearly equal, or if it is near a threshold:
    rounding on another processor could change its answer.
    """
    assert model.abstention is not None
    texts = list(GOLDEN_TEXTS)
    if answers:
        texts += [entry.question for entry in answers.index.entries if entry.question][:_QUESTIONS]
    predicted = model.predict(texts)
    probability, in_scope = predicted.probability("intent"), model.in_scope(predicted)
    at_threshold = _at_threshold(model.abstention, predicted)
    heads = [task for task, names in model.classes.items() if names]
    goldens = []
    for i, text in enumerate(texts):
        if any(_margin(predicted.logits[task][i]) < 10 * LOGIT_TOLERANCE for task in heads):
            continue
        if at_threshold[i]:
            continue
        answer = [
            _bytes("INTENT", predicted.labels("intent")[i]),
            GoldenTensor("CONFIDENCE", "FP32", (1, 1), [[float(probability[i].max())]]),
        ]
        if model.several_threshold is not None:
            if abs(probability[i] - model.several_threshold).min() < LOGIT_TOLERANCE:
                continue
            wanted = np.flatnonzero(several(probability[i : i + 1], model.several_threshold)[0])
            names = [model.classes["intent"][c] for c in wanted[np.argsort(-probability[i, wanted])]]
            answer.append(GoldenTensor("INTENTS", "BYTES", (1, len(names)), [names]))
        if "sentiment" in heads:
            answer.append(_bytes("SENTIMENT", predicted.labels("sentiment")[i]))
        outside = not bool(in_scope[i])
        answer.append(GoldenTensor("IS_OUT_OF_SCOPE", "BOOL", (1, 1), [[outside]]))
        if answers:
            (message,) = messages_of(model, [text])
            if answers.margin(message) < _TOO_CLOSE:
                continue
            found = answers.best(message)
            answer.append(_bytes("ANSWER", found.answer if found else ""))
            answer.append(_bytes("ANSWER_SOURCE", found.source if found else ""))
        goldens.append(Golden((_bytes("TEXT", text),), tuple(answer)))
    return goldens


def _at_threshold(rule: Abstention, said: Prediction) -> NDArray[np.bool_]:
    """Return the texts whose scope changes if the top intent logit or the similarity changes a little."""
    logits, near = said.logits["intent"], said.example_similarity
    step = _TOO_CLOSE * (logits == logits.max(1, keepdims=True))
    less, more = (
        rule.accepts(logits + sign * step, None if near is None else near + sign * _TOO_CLOSE)
        for sign in (-1, 1)
    )
    turned: NDArray[np.bool_] = less != more
    return turned


def encoder_golden(model: LanguageModel, text: str) -> Golden:
    """Return the encoder's outputs for a text that is padded as `understand` pads it."""
    texts = read_texts(model.tokenizer, [text], model.config.max_tokens)
    ((width, _),) = texts.by_length(model.config.buckets).items()
    padded = texts.padded([0], width)
    with torch.inference_mode():
        _, said, near = model.encoder.understand(*as_tensors(padded))
    told = {f"{task.upper()}_LOGIT": logits for task, logits in said.items()}
    if near is not None:
        told["EXAMPLE_SIMILARITY"] = near
    return Golden(
        request=tuple(
            GoldenTensor(name, "INT32" if name == "CODE_POINT" else "INT64", value.shape, value.tolist())
            for name, value in padded.items()
        ),
        answer=tuple(
            GoldenTensor(name, "FP32", tuple(value.shape), value.tolist()) for name, value in told.items()
        ),
        tolerance=LOGIT_TOLERANCE,
    )


def _bytes(name: str, text: str) -> GoldenTensor:
    return GoldenTensor(name, "BYTES", (1, 1), [[text]])


def _margin(logits: NDArray[np.float32]) -> float:
    top = np.sort(logits)[-2:]
    return float(top[1] - top[0])
