"""Factors of cold-start items from their content: titles, categories, attributes and pictures."""

from shopsight.training.recommend.content.features import ContentFeatures
from shopsight.training.recommend.content.model import ContentConfig, ContentModel

__all__ = ["ContentConfig", "ContentFeatures", "ContentModel"]
