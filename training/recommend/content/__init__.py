"""Factors for items that nobody touched yet, from what they are: titles, categories, attributes, pictures."""

from training.recommend.content.features import ContentFeatures
from training.recommend.content.model import ContentConfig, ContentModel

__all__ = ["ContentConfig", "ContentFeatures", "ContentModel"]
