"""The recommend family: matrix factorisation, and the router that recommends."""

from __future__ import annotations

from shopsight.training.artifacts.family import Family
from shopsight.training.recommend import RecommendConfig, evaluate, export, train
from shopsight.training.recommend.search import SEARCH

FAMILY = Family(
    name="recommend",
    config=RecommendConfig,
    requires=("events", "items"),
    train=train,
    evaluate=evaluate,
    export=export,
    erasure="weights",
    search=SEARCH,
)
