"""The language model's inputs: token ids and code points of texts, padded to a few fixed shapes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]

CODE_POINTS_PER_TOKEN = 6  # of a padded shape: tokens of frequent words are seldom longer


@dataclass(frozen=True)
class Texts:
    """Token ids of each text, and the code points of its normalised form between two spaces."""

    tokens: list[list[int]]
    code_points: list[Array]

    def __len__(self) -> int:
        return len(self.tokens)

    def padded(self, chosen: Sequence[int] | Array, num_tokens: int = 0) -> dict[str, Array]:
        """Return TOKEN_ID int64 [n, L], LENGTH int64 [n, 1] and CODE_POINT int32 [n, C], padded with 0.

        L is num_tokens and C six times that, or both are what the longest chosen texts need.
        """
        tokens = [self.tokens[i] for i in chosen]
        points = [self.code_points[i] for i in chosen]
        length = np.array([[len(ids)] for ids in tokens], dtype=np.int64).reshape(-1, 1)
        widths = (num_tokens, num_tokens * CODE_POINTS_PER_TOKEN)
        if not num_tokens:
            widths = (int(length.max(initial=0)), max(map(len, points), default=0))
        return {
            "TOKEN_ID": _filled(tokens, widths[0], np.int64),
            "LENGTH": length,
            "CODE_POINT": _filled(points, widths[1], np.int32),
        }

    def by_length(self, buckets: Sequence[int]) -> dict[int, list[int]]:
        """Return which texts fit each padded number of tokens, in their order; buckets ascend."""
        groups: dict[int, list[int]] = defaultdict(list)
        for place, (ids, points) in enumerate(zip(self.tokens, self.code_points, strict=True)):
            need = max(len(ids), -(-len(points) // CODE_POINTS_PER_TOKEN))
            groups[next(length for length in buckets if length >= need)].append(place)
        return groups


def read_texts(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> Texts:
    """Tokenise texts, which are cut to max_tokens tokens and six times as many code points."""
    tokens = [encoding.ids[:max_tokens] for encoding in tokenizer.encode_batch_fast(list(texts))]
    normalize, most = tokenizer.normalizer.normalize_str, max_tokens * CODE_POINTS_PER_TOKEN
    points = [_code_points(f" {normalize(text[: 4 * most])} "[:most]) for text in texts]
    return Texts(tokens, points)


def _code_points(text: str) -> Array:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int32)


def _filled(rows: Sequence[Any], width: int, dtype: Any) -> Array:
    filled = np.zeros((len(rows), width), dtype=dtype)
    for row, values in zip(filled, rows, strict=True):
        row[: len(values)] = values
    return filled
