"""Embedding recommenders on TorchRec: two towers that retrieve, and a ranker of what they found."""

from training.recommend.embedding.config import EmbeddingConfig

__all__ = ["EmbeddingConfig"]
