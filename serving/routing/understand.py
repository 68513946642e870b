"""The understand router: intent and sentiment of a message, and the shop's answer to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from shopsight.serving.routing.answers import AnswerIndex, Message, Weights
from shopsight.serving.routing.rows import RequestError, Row, byte_strings, each
from shopsight.serving.routing.scope import Abstention
from shopsight.serving.routing.settings import Settings
from shopsight.serving.routing.texts import read_texts

Array = np.ndarray[Any, Any]
Answer = dict[str, Array]
Ask = Callable[[str, Mapping[str, Array]], Mapping[str, Array]]

TOKENIZER_FILE = "tokenizer.json"


class UnderstandRouter:
    """Answers `understand` rows with one call of the member for all texts of the same padded length.

    Normalisation, special tokens and truncation are part of tokenizer.json. preprocessing: intents and
    sentiments (names in the order of the member's outputs; empty if not learned), inputs (names of the
    member's inputs), temperature (of the intents' logits), abstention (score, threshold and temperature of
    scope.py), buckets (padded lengths, ascending), max_text_bytes, answers (weights and threshold of
    answers.py; null if the shop has none), and several_threshold (the probability from which an intent counts
    as one of several; null if messages have one intent).
    """

    def __init__(self, folder: Path, release: str) -> None:
        preprocessing = Settings.read(folder)
        self._release = release.encode()
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        self._intents = [str(name).encode() for name in preprocessing["intents"]]
        self._sentiments = [str(name).encode() for name in preprocessing["sentiments"]]
        self._inputs = [str(name) for name in preprocessing["inputs"]]
        self._temperature = float(preprocessing["temperature"])
        self._abstention = preprocessing["abstention"].build(Abstention)
        self._buckets = sorted(int(length) for length in preprocessing["buckets"])
        self._max_text_bytes = int(preprocessing["max_text_bytes"])
        rule = preprocessing["answers"]
        several = preprocessing.get("several_threshold")  # releases from before have none
        self._several_threshold = None if several is None else float(several)
        if rule:
            self._weights, self._threshold = rule["weights"].build(Weights), float(rule["threshold"])
        self._answers = AnswerIndex.read(folder) if rule else None

    def answer(self, rows: Sequence[Row], ask: Ask) -> list[Answer | RequestError]:
        """Return an answer or the error for each row, in order; `ask` calls a member at this release."""
        read = each(self._text, rows)
        places = [i for i, text in enumerate(read) if isinstance(text, str)]
        texts = [text for text in read if isinstance(text, str)]
        inputs = read_texts(self._tokenizer, texts, self._buckets[-1])
        outputs: list[Any] = list(read)
        for length, chosen in inputs.by_length(self._buckets).items():
            padded = inputs.padded(chosen, length)
            answer = ask("intent_encoder", {name: padded[name] for name in self._inputs})
            for at, place in enumerate(chosen):
                outputs[places[place]] = {name: value[at] for name, value in answer.items()}
        tokens = dict(zip(places, inputs.tokens, strict=True))
        return each(self._answer, read, [tokens.get(i, []) for i in range(len(read))], outputs)

    def _probability(self, scaled: Array) -> Array:
        """Return the probabilities of the intents: softmax, or sigmoid if messages may have several."""
        if self._several_threshold is not None:
            return np.asarray(1 / (1 + np.exp(-scaled)))
        raised = np.exp(scaled - scaled.max())
        return np.asarray(raised / raised.sum())

    def _text(self, row: Row) -> str:
        raw = row.text("TEXT") or b""
        if len(raw) > self._max_text_bytes:
            raise RequestError(
                f"TEXT has {len(raw)} bytes, at most {self._max_text_bytes} are read; send its first part"
            )
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise RequestError(f"TEXT is not valid UTF-8 (byte {error.start}); send UTF-8") from error
        if not text.strip():
            raise RequestError("TEXT is empty; send what the customer wrote")
        return text

    def _answer(self, text: str, tokens: Sequence[int], output: Mapping[str, Array]) -> Answer:
        logits = output["INTENT_LOGIT"][None]
        probability = self._probability(logits[0].astype(np.float64) / self._temperature)
        intent = int(probability.argmax())
        in_scope = self._abstention.accepts(logits, output.get("EXAMPLE_SIMILARITY"))
        answer = {
            "INTENT": byte_strings([self._intents[intent]]),
            "CONFIDENCE": probability[intent : intent + 1].astype(np.float32),
            "IS_OUT_OF_SCOPE": ~in_scope,
            "RELEASE": byte_strings([self._release]),
        }
        if self._several_threshold is not None:
            wanted = np.flatnonzero(probability >= self._several_threshold)
            ranked = [intent, *(i for i in wanted[np.argsort(-probability[wanted])] if i != intent)]
            answer["INTENTS"] = byte_strings([self._intents[i] for i in ranked])
        if self._sentiments:
            answer["SENTIMENT"] = byte_strings([self._sentiments[int(output["SENTIMENT_LOGIT"].argmax())]])
        if self._answers is not None:
            message = Message(text, tokens, output["EMBEDDING"], probability, bool(in_scope[0]))
            found = self._answers.best(message, self._weights, self._threshold)
            answer["ANSWER"] = byte_strings([found.answer.encode() if found else b""])
            answer["ANSWER_SOURCE"] = byte_strings([found.source.encode() if found else b""])
        return answer
