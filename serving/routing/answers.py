"""Finds the answer to a message among the shop's FAQ and policies, by words, meaning and intent, or none."""

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

_PAIR = 2**32  # a pair of tokens is the first times this plus the second: no token id reaches it
_HAN = range(0x4E00, 0xA000)


@dataclass(frozen=True)
class Entry:
    """One answer of the shop: source is its id in the `answers` table, question "" for a policy."""

    source: str
    question: str
    answer: str
    intent: str


@dataclass(frozen=True)
class Message:
    """What is known of a message: its text, token ids, unit vector, and probabilities of the intents [n].

    in_scope: whether it means one of them at all (scope.py).
    """

    text: str
    tokens: Sequence[int]
    embedding: Array
    probability: Array
    in_scope: bool


@dataclass(frozen=True)
class Weights:
    """How much words (BM25), meaning (the product of unit vectors) and intent say; they sum to 1."""

    words: float
    meaning: float
    intent: float


class AnswerIndex:
    """The answers with what is needed to score them; the arrays are those of answers.safetensors.

    embedding float32 [n, d], unit vectors; intent int32 [n], -1 for none; is_chinese bool [n]; term int64
    [t], ascending; term_indptr int64 [t + 1] and term_entry int32, term_weight float32 [nnz]: BM25 by term;
    term_rarity float32 [t], and unknown_rarity float32 [1] of a term that no answer has.
    """

    def __init__(self, entries: Sequence[Entry], arrays: Mapping[str, Array]) -> None:
        self.entries, self.arrays = tuple(entries), dict(arrays)

    @classmethod
    def read(cls, folder: Path) -> AnswerIndex:
        """Read the index that a release holds."""
        raw = json.loads((folder / ENTRIES_FILE).read_text(encoding="utf-8"))
        return cls([Entry(**entry) for entry in raw["entries"]], map_safetensors(folder / INDEX_FILE))

    def parts(self, message: Message) -> Float64:
        """Return what words, meaning and intent say of each answer, float64 [3, n], each at most about 1.

        Words: BM25 (Robertson and Zaragoza 2009) as a share of what an answer with all the message's terms
        would have. Answers in the other script, Chinese or not, stand at -1 throughout, and so do those to
        intents where the message means none.
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
        """Return the answer with the highest score, or None where it does not reach the threshold."""
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
    """Return the score of each answer, float64 [n], of what `parts` gives."""
    said: Float64 = np.array([weights.words, weights.meaning, weights.intent]) @ parts
    return said


def terms(tokens: Sequence[int]) -> Array:
    """Return the tokens of a text, without padding and the leading one, and then its pairs, int64."""
    ids = np.array([token for token in tokens if token > 1], dtype=np.int64)
    return np.concatenate([ids, ids[:-1] * _PAIR + ids[1:]])


def is_chinese(text: str) -> bool:
    """Return whether a text has Chinese characters."""
    return any(ord(c) in _HAN for c in text)
