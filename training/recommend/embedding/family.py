"""The embedding family: a two-tower retriever and a ranker, with tables sharded over workers."""

from __future__ import annotations

from shopsight.training.artifacts.family import Family
from shopsight.training.recommend.embedding import EmbeddingConfig, evaluate, export, train
from shopsight.training.recommend.embedding.search import SEARCH

FAMILY = Family(
    name="embedding",
    config=EmbeddingConfig,
    requires=("events", "items"),
    train=train,
    evaluate=evaluate,
    export=export,
    erasure="weights",
    called_by="recommend",
    on_request=True,  # it takes longer than all others
    data_parallel=True,
    search=SEARCH,
)
