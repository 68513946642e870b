"""Retrieves the shop's answer (FAQ or policy) to a message, by words, embedding and intent, or none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopsight.serving.routing.arrays import map_safetensors

ENTRIES_FILE, INDEX_FILE = "answers.json", "answers.safetensors"

Array = np.ndarray[Any, Any]
Float64 = NDArray[np.float64]

_PAIR = 2**32  # above every token id: the pair (a, b) is the term a * _PAIR + b
_HAN = range(0x4E00, 0xA000)


@dataclass(frozen=True)
class Entry:
    """One answer of the shop; source is its id in the `answers` table, question is "" for a policy."""

    source: str
    question: str
    answer: str
    intent: str


@dataclass(frozen=True)
class Message:
    """A message: its text, token ids, unit vector float32 [d], and probabilities of the intents [n].

    in_scope: whether it has one of the known intents (scope.py).
    """

    text: str
    tokens: Sequence[int]
    embedding: Array
    probability: Array
    in_scope: bool


@dataclass(frozen=True)
class Weights:
    """Weights of words (BM25), embedding (cosine) and intent in the score; they sum to 1."""

    words: float
    meaning: float
    intent: float


class AnswerIndex:
    """The answers with the arrays of answers.safetensors that score them.

    embedding float32 [n, d], unit vectors; intent int32 [n], -1 for none; is_chinese bool [n]; term int64
    [t], ascending; term_indptr int64 [t + 1] and term_entry int32, term_weight float32 [nnz]: BM25 by term;
    term_rarity float32 [t], and unknown_rarity float32 [1] of a term that no answer has.
    """

    def __init__(self, entries: Sequence[Entry], arrays: Mapping[str, Array]) -> None:
        self.entries, self.arrays = tuple(entries), dict(arrays)

    @classmethod
    def read(cls, folder: Path) -> AnswerIndex:
        """Read the index of a release."""
        raw = json.loads((folder / ENTRIES_FILE).read_text(encoding="utf-8"))
        return cls([Entry(**entry) for entry in raw["entries"]], map_safetensors(folder / INDEX_FILE))

    def parts(self, message: Message) -> Float64:
        """Return the scores of each answer by words, embedding and intent, float64 [3, n], at most about 1.

        Words: BM25 (Robertson and Zaragoza 2009) divided by the score of an answer with all terms of the
        message. Answers in another script (Chinese or not) than the message are -1 in all three, and so are
        answers with an intent if the message is out of scope.
        """
        found = np.zeros((3, len(self.entries)))
        found[0] = self._words(np.unique(terms(message.tokens)))
        found[1] = self.arrays["embedding"] @ message.embedding
        intent = self.arrays["intent"]
        found[2] = np.where(intent >= 0, message.probability[np.maximum(intent, 0)], 0.0)
        found[:, self.arrays["is_chinese"] != is_chinese(message.text)] = -1.0
        if not message.in_scope:
            found[:, intent >= 0] = -1.0
        return found

    def best(self, message: Message, weights: Weights, threshold: float) -> Entry | None:
        """Return the answer with the highest score, or None if it does not reach the threshold."""
        score = total(self.parts(message), weights)
        place = int(score.argmax())
        return self.entries[place] if score[place] >= threshold else None

    def _words(self, asked: Array) -> Float64:
        arrays, score = self.arrays, np.zeros(len(self.entries))
        place = np.searchsorted(arrays["term"], asked)
        known = arrays["term"][np.minimum(place, len(arrays["term"]) - 1)] == asked
        rarity = np.where(
            known, arrays["term_rarity"][np.where(known, place, 0)], arrays["unknown_rarity"][0]
        )
        for at in place[known]:
            begin, end = arrays["term_indptr"][at : at + 2]
            score[arrays["term_entry"][begin:end]] += arrays["term_weight"][begin:end]
        most: Float64 = score / max(float(rarity.sum()), 1e-9)
        return most


def total(parts: Float64, weights: Weights) -> Float64:
    """Return the score of each answer, float64 [n]: the weighted sum of `parts`, float64 [3, n]."""
    said: Float64 = np.array([weights.words, weights.meaning, weights.intent]) @ parts
    return said


def terms(tokens: Sequence[int]) -> Array:
    """Return the terms of a text, int64: its tokens without padding and the leading one, then token pairs."""
    ids = np.array([token for token in tokens if token > 1], dtype=np.int64)
    return np.concatenate([ids, ids[:-1] * _PAIR + ids[1:]])


def is_chinese(text: str) -> bool:
    """Return whether a text contains Chinese characters."""
    return any(ord(c) in _HAN for c in text)
