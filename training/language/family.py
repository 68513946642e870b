"""The language family: intent and sentiment of messages, and answers to them."""

from __future__ import annotations

from shopsight.training.artifacts.family import Family
from shopsight.training.language import LanguageConfig, evaluate, export, train

FAMILY = Family(
    name="language",
    config=LanguageConfig,
    requires=("messages", "labels"),
    train=train,
    evaluate=evaluate,
    export=export,
    erasure="nothing",
)
