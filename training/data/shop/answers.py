"""The shop's FAQ and policies, in English and Chinese."""

from __future__ import annotations

import polars as pl

from shopsight.training.data.shop.people import phrases


def faq() -> pl.DataFrame:
    """Return questions and answers: id, question, answer, lang, intent."""
    rows = [(f"FAQ-{i:03d}-{lang}", e[lang]["question"], e[lang]["answer"], lang, e["intent"])
            for i, e in enumerate(phrases("answers")["faq"], 1) for lang in ("en", "zh")]  # fmt: skip
    return pl.DataFrame(rows, schema=["id", "question", "answer", "lang", "intent"], orient="row")


def policies() -> pl.DataFrame:
    """Return policies: id, title, text, lang, topic."""
    rows = [(f"POL-{i:02d}-{lang}", e[lang]["title"], e[lang]["text"], lang, e["topic"])
            for i, e in enumerate(phrases("answers")["policy"], 1) for lang in ("en", "zh")]  # fmt: skip
    return pl.DataFrame(rows, schema=["id", "title", "text", "lang", "topic"], orient="row")
