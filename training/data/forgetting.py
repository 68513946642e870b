"""Rows of forgotten customers, as raw files still hold them: counted, and kept nowhere."""

from __future__ import annotations

import hashlib
import json
import re

import polars as pl

from serving.forgotten import Forgotten
from serving.pseudonym import PseudonymKey

_WORDS = re.compile(r"[^\s,;|\"'{}\[\]<>]+")


class Gone:
    """The raw ids that tombstones forbid, by source; raw ids are hashed to be compared."""

    def __init__(self, forgotten: Forgotten, key: PseudonymKey) -> None:
        self._key = key
        self._pseudonyms: dict[str, set[str]] = {}
        for stone in forgotten.tombstones:
            renewed = key.renewed([p for _, p in stone.pseudonyms], stone.key_id)
            for (source, _), pseudonym in zip(stone.pseudonyms, renewed, strict=True):
                self._pseudonyms.setdefault(source, set()).add(pseudonym)

    def sha256(self, source: str) -> str:
        """A hash of who is gone from a source."""
        names = sorted(self._pseudonyms.get(source, ()))
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

    def named_in(self, source: str, raws: pl.Series) -> pl.Series:
        """Which raw texts of refused rows have a word that is the id of someone gone, Boolean."""
        wanted = self._pseudonyms.get(source)
        if not wanted:
            return pl.repeat(False, raws.len(), eager=True)
        found = [not wanted.isdisjoint(self._key.pseudonyms(source, _words(raw or ""))) for raw in raws]
        return pl.Series(found, dtype=pl.Boolean)


def _words(raw: str) -> set[str]:
    words = _WORDS.findall(raw)
    return set(words) | {part for word in words for part in word.split(":")}
