"""Sentences of customers, composed from the grammars in phrases/."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import numpy as np

from shopsight.training.data.shop.people import phrases

SENTIMENTS = ("negative", "neutral", "positive")
NEGATIVE, NEUTRAL, POSITIVE = 0, 1, 2

# What makes the messages as hard as real ones: how often each thing happens.
_VAGUE = 0.025  # the message hardly says what it wants
_BRIDGE = 0.14  # it names another matter first, only to set it aside
_SECOND = 0.05  # it asks for something else as well
_CONTACT = 0.05  # it carries a mail address or a phone number
_TYPOS = 0.25  # it has slips of the finger
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_NEAR = dict(zip("abcdefghiklmnoprstuwy", "sbvfrdghokjmnbiptdyie", strict=True))


class Writer:
    """Writes reviews, posts and support messages; the same draws give the same words."""

    def __init__(self, titles: list[str], rng: np.random.Generator) -> None:
        self._titles = titles
        self._draw = Random(int(rng.integers(2**62)))
        self._support = phrases("support")
        self._reviews = phrases("reviews")
        self.intents = tuple(self._support["intents"])
        shares = np.array([self._support["intents"][i]["share"] for i in self.intents])
        self.intent_shares = shares / shares.sum()

    def review(self, sentiment: int, language: str, item: int) -> str:
        """Return a review of an item in words of this sentiment."""
        return self._opinion(self._reviews["review"][language], sentiment, language, self._titles[item])

    def post(self, sentiment: int, language: str) -> str:
        """Return a post about the shop."""
        text = self._fill(
            self._one(self._reviews["post"][language][SENTIMENTS[sentiment]]), language, self._title()
        )
        return self._emoji(text, sentiment, language, 0.4)

    def support(self, intent: str, language: str, annoyed: bool = False) -> tuple[str, int]:
        """Return a message with this intent, and its sentiment (an index of SENTIMENTS)."""
        frame, draw = self._support["frame"][language], self._draw
        sentiment = NEGATIVE if annoyed else self._mood(intent)
        item = self._title()
        vague = draw.random() < _VAGUE
        core = self._one(frame["vague"] if vague else self._support["intents"][intent][language])
        parts = [core]
        if draw.random() < _BRIDGE:
            parts.insert(0, self._one(frame["bridge"]))
        if draw.random() < 0.3:
            parts.insert(0, self._one(frame["context"]))
        if draw.random() < 0.35:
            parts.insert(0, self._one(frame["greeting"]))
        if sentiment != NEUTRAL and (intent not in ("complaint", "praise") or draw.random() < 0.4):
            parts.insert(int(draw.random() * (len(parts) + 1)), self._one(frame[SENTIMENTS[sentiment]]))
        if draw.random() < _SECOND:
            other = self._support["intents"][self.intents[int(draw.random() * len(self.intents))]][language]
            parts.append({"en": "also ", "zh": "另外"}[language] + self._one(other))
        if draw.random() < _CONTACT:
            parts.append(self._one(frame["contact"]))
        if draw.random() < 0.35:
            parts.append(self._one(frame["politeness"]))
        text = self._join([self._fill(p, language, item) for p in parts], language)
        return self._emoji(self._careless(text, language), sentiment, language, 0.12), sentiment

    def _opinion(self, sentences: dict[str, list[str]], sentiment: int, language: str, title: str) -> str:
        draw = self._draw
        chosen = [self._one(sentences[SENTIMENTS[sentiment]]) for _ in range(1 + int(draw.random() * 2.5))]
        if draw.random() < 0.12:
            chosen.append(self._one(sentences["neutral"]))
        chosen = list(dict.fromkeys(chosen))
        text = self._join([self._fill(s, language, title) for s in chosen], language)
        return self._emoji(self._careless(text, language), sentiment, language, 0.15)

    def _mood(self, intent: str) -> int:
        negative, neutral, _ = self._support["intents"][intent]["mood"]
        point = self._draw.random()
        return NEGATIVE if point < negative else NEUTRAL if point < negative + neutral else POSITIVE

    def _one(self, options: list[str]) -> str:
        return options[int(self._draw.random() * len(options))]

    def _title(self) -> str:
        return self._one(self._titles)

    def _fill(self, sentence: str, language: str, title: str) -> str:
        sentence = _CHOICE.sub(lambda m: self._one(m[1].split("|")), sentence)
        return _SLOT.sub(lambda m: self._slot(m[1], language, title), sentence)

    def _slot(self, name: str, language: str, title: str) -> str:
        slots: dict[str, Any] = self._support["slots"]
        number = self._draw.random()
        if name in ("item", "noun"):
            return self._short(title)
        if name == "item2":
            return self._short(self._title())
        if name in ("order", "amount", "days", "height", "chest", "times", "mail", "phone"):
            return _number(name, number)
        options = slots.get(name.rstrip("2")) or slots[f"{name}_{language}"]
        return str(self._one(options))

    def _short(self, title: str) -> str:
        """People rarely write a title in full: its noun, or brand and noun."""
        words = title.split(",")[0].split(" ")
        point = self._draw.random()
        return title if point < 0.1 else " ".join(words[-2:]) if point < 0.7 else words[-1]

    def _join(self, parts: list[str], language: str) -> str:
        if language == "zh":
            return "".join(p if p[-1] in "，。？！：" else p + "，" for p in parts if p).rstrip("，")
        ends = [p if p[-1] in ".?!:," else p + self._one([".", ".", ",", "", "!"]) for p in parts if p]
        text = " ".join(ends)
        return text if self._draw.random() < 0.45 else text[0].upper() + text[1:]

    def _careless(self, text: str, language: str) -> str:
        draw = self._draw
        if draw.random() >= _TYPOS:
            return text.lower() if language == "en" and draw.random() < 0.15 else text
        letters = list(text)
        for _ in range(1 + len(letters) // 45):
            at = int(draw.random() * len(letters))
            kind, letter = draw.random(), letters[at].lower()
            if letter not in _NEAR:
                continue
            letters[at] = "" if kind < 0.35 else letters[at] * 2 if kind < 0.6 else _NEAR[letter]
        return "".join(letters)

    def _emoji(self, text: str, sentiment: int, language: str, share: float) -> str:
        if sentiment == NEUTRAL or self._draw.random() >= share:
            return text
        return f"{text} {self._one(self._support['frame'][language][f'emoji_{SENTIMENTS[sentiment]}'])}"


def _number(name: str, point: float) -> str:
    if name == "order":
        return f"{'WO' if point < 0.6 else 'AO'}{int(point * 10**6):010d}"
    if name == "amount":
        return f"{5 + int(point * 30_000) / 100:.2f}"
    if name == "mail":
        return f"customer{int(point * 10**5)}@mailbox.example"
    if name == "phone":
        return f"+49 151 {int(point * 10**7):07d}"
    low, high = {"days": (2, 20), "height": (150, 198), "chest": (80, 120), "times": (2, 6)}[name]
    return str(low + int(point * (high - low)))
