"""Content features of items: one sparse row of hashed words, word pieces and attributes per item."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

_WORD = re.compile(r"[^\W_]+")
_PIECE = 4  # length of a word piece (character n-gram), which plurals and compounds share
_HAN = re.compile(r"[\u4e00-\u9fff]")


@dataclass(frozen=True)
class ContentFeatures:
    """Weighs hashed tokens by their inverse document frequency; rows have Euclidean length 1.

    idf: float32 [buckets]. The bucket of a token is its BLAKE2b hash modulo their number, so that no list of
    tokens is stored and new items need no new one.
    """

    idf: NDArray[np.float32]

    @staticmethod
    def fit(tokens: Sequence[Iterable[str]], num_buckets: int) -> ContentFeatures:
        """Return features with the inverse document frequency of each bucket over these items."""
        counts = _counts(tokens, num_buckets)
        frequency = np.asarray((counts > 0).sum(axis=0)).ravel()
        idf = np.log((1 + len(tokens)) / (1 + frequency)) + 1
        return ContentFeatures(idf.astype(np.float32))

    def rows(self, tokens: Sequence[Iterable[str]]) -> sparse.csr_matrix:
        """Return CSR float32 [items, buckets]; the row of an item without tokens is empty."""
        weighed = _counts(tokens, len(self.idf)).multiply(self.idf).tocsr()
        length = np.sqrt(np.asarray(weighed.multiply(weighed).sum(axis=1)).ravel())
        scaled = sparse.diags(1 / np.maximum(length, 1e-12)) @ weighed
        return sparse.csr_matrix(scaled, dtype=np.float32)


def item_tokens(items: pl.DataFrame) -> list[list[str]]:
    """Return the tokens of rows of the items table: categories with those above them, brand, attributes,
    words of the title and pieces of them, pairs of Chinese characters.
    """
    columns = ("title", "category_path", "brand", "attributes")
    return [list(_tokens(*row)) for row in items.select(columns).iter_rows()]


def _tokens(
    title: str | None, category: str | None, brand: str | None, attributes: str | None
) -> Iterator[str]:
    if category:
        parts = category.split("/")
        yield from ("category " + "/".join(parts[: level + 1]) for level in range(len(parts)))
    if brand:
        yield f"brand {brand}"
    yield from _facts(attributes)
    for word in _WORD.findall((title or "").lower()):
        if _HAN.search(word):
            yield from (f"title {word[i : i + 2]}" for i in range(max(1, len(word) - 1)))
            continue
        yield f"title {word}"
        if len(word) > _PIECE:
            yield from (f"piece {word[i : i + _PIECE]}" for i in range(len(word) - _PIECE + 1))


def _facts(attributes: str | None) -> Iterator[str]:
    try:
        facts = json.loads(attributes) if attributes else {}
    except ValueError:
        facts = {"": attributes}
    for name, value in facts.items() if isinstance(facts, dict) else [("", facts)]:
        values = value if isinstance(value, list) else [value]
        yield from (f"fact {name}={one}" for one in values)


def _counts(tokens: Sequence[Iterable[str]], num_buckets: int) -> sparse.csr_matrix:
    row, column = [], []
    seen: dict[str, int] = {}
    for number, words in enumerate(tokens):
        for word in words:
            if word not in seen:
                digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
                seen[word] = int.from_bytes(digest, "little") % num_buckets
            row.append(number)
            column.append(seen[word])
    ones = np.ones(len(row), dtype=np.float32)
    return sparse.csr_matrix((ones, (row, column)), (len(tokens), num_buckets))
