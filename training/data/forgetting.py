"""Leaves out rows of erased customers that raw files still contain; they are counted but not stored.

If masking was requested, their names in other people's texts are masked at ingest.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import partial

import polars as pl

from shopsight.serving.forgotten import Forgotten
from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.data.cleaning.phrases import Finder, Phrase

_TEXTS = "words of texts"  # in the place of a source, so that a word's hash is no id's
_WORDS = re.compile(r"[^\s,;|\"'{}\[\]<>]+")


class Gone:
    """The erased raw ids by source; raw ids are compared by their keyed hashes."""

    def __init__(self, forgotten: Forgotten, key: PseudonymKey) -> None:
        self._key = key
        self._pseudonyms: dict[str, set[str]] = {}
        renewed = forgotten.renewed(key)
        for stone in renewed.tombstones:
            for source, pseudonym in stone.pseudonyms:
                self._pseudonyms.setdefault(source, set()).add(pseudonym)
        self._phrases = sorted({phrase for stone in renewed.tombstones for phrase in stone.phrases})
        self._finder = Finder((Phrase(*phrase) for phrase in self._phrases), partial(word_hash, key))

    def sha256(self, source: str) -> str:
        """A hash of who is gone from a source, and of what is masked in its texts."""
        names: list[object] = [*sorted(self._pseudonyms.get(source, ())), *self._phrases]
        return hashlib.sha256(json.dumps(names).encode()).hexdigest()

    def among(self, source: str, ids: pl.Series) -> pl.Series:
        """Which raw ids of a source are gone, Boolean; a missing id is not."""
        wanted = self._pseudonyms.get(source)
        if not wanted:
            return pl.repeat(False, ids.len(), eager=True)
        names = ids.drop_nulls().unique()
        hashed = self._key.pseudonyms(source, names)
        gone = [name for name, pseudonym in zip(names, hashed, strict=True) if pseudonym in wanted]
        return ids.is_in(gone).fill_null(False)

    def named_in(self, source: str, refused: pl.DataFrame) -> pl.Series:
        """Which refused rows (REFUSED_SCHEMA) are of someone gone, Boolean.

        By the row's id; where none could be read, by any word of its raw text that is the id of someone gone.
        """
        wanted = self._pseudonyms.get(source)
        if not wanted:
            return pl.repeat(False, refused.height, eager=True)
        found = [
            not wanted.isdisjoint(self._key.pseudonyms(source, ids_in(raw, source_id)))
            for raw, source_id in refused.select("raw", "source_id").iter_rows()
        ]
        return pl.Series(found, dtype=pl.Boolean)

    def masked(self, texts: pl.Series) -> pl.Series:
        """The texts with what they call people whom they must not name any more in brackets, as [name]."""
        if not self._phrases:
            return texts
        return pl.Series(texts.name, [text and self._finder.masked(text) for text in texts], dtype=pl.String)


def word_hash(key: PseudonymKey, word: str) -> str:
    """Return the keyed hash of a word, as tombstones keep the words of what is masked in texts."""
    return key.pseudonym(_TEXTS, word)


def ids_in(raw: str | None, source_id: str | None) -> set[str]:
    """Return what may be the id of a refused row: its own, else every word of a raw line or JSON object."""
    if source_id is not None:
        return {source_id}
    words = _WORDS.findall(raw or "")
    return {*words, *(part for word in words for part in word.split(":"))}
