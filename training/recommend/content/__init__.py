"""Factors for items that nobody touched yet, from what they are: titles, categories, attributes, pictures."""

from shopsight.training.recommend.content.features import ContentFeatures
from shopsight.training.recommend.content.model import ContentConfig, ContentModel

__all__ = ["ContentConfig", "ContentFeatures", "ContentModel"]
