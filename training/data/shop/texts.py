"""Sentences of customers, composed from the grammars in phrases/."""

from __future__ import annotations

import numpy as np

from training.data.shop.people import phrases

SENTIMENTS = ("negative", "neutral", "positive")


class Writer:
    """Writes reviews, posts and support messages in a person's language."""

    def __init__(self, titles: list[str], speaks_chinese: np.ndarray) -> None:
        self._titles = titles
        self._speaks_chinese = speaks_chinese
        self._support = phrases("support")
        self.intents = tuple(self._support["intents"])
        shares = np.array([self._support["intents"][i]["share"] for i in self.intents])
        self.intent_shares = shares / shares.sum()

    def languages(self, person: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return en or zh a message: what its writer speaks, now and then the other."""
        chinese = self._speaks_chinese[person] & (rng.random(person.size) < 0.92)
        return np.where(chinese, "zh", "en")

    def review(self, sentiment: int, language: str, item: int, rng: np.random.Generator) -> str:
        """Return a review of an item."""
        return f"{SENTIMENTS[sentiment]} {self._titles[item]} {language}"

    def post(self, sentiment: int, language: str, rng: np.random.Generator) -> str:
        """Return a post about the shop."""
        return f"{SENTIMENTS[sentiment]} {language} {rng.integers(100)}"

    def support(self, intent: str, language: str, rng: np.random.Generator) -> tuple[str, int]:
        """Return a message with this intent, and its sentiment (row of SENTIMENTS)."""
        options = self._support["intents"][intent][language]
        return str(options[int(rng.integers(len(options)))]), 1
