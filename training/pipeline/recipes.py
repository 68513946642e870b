"""Complete named recipes: every setting of every family of models, overridable by file and by key."""

from __future__ import annotations

from dataclasses import dataclass, field

from shopsight.training.language.config import LanguageConfig
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.recommend.config import RecommendConfig
from shopsight.training.recommend.embedding.config import EmbeddingConfig
from shopsight.training.value.config import ValueConfig


@dataclass(frozen=True)
class Recipe:
    """What `train`, `evaluate` and `export` do, family by family."""

    profiles: ProfilesConfig = field(default_factory=ProfilesConfig)
    value: ValueConfig = field(default_factory=ValueConfig)
    recommend: RecommendConfig = field(default_factory=RecommendConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)


class UnknownRecipe(ValueError):  # noqa: N818 - reads as what happened
    """No recipe has this name."""


def recipe(name: str) -> Recipe:
    """Return the recipe called `name`; raises UnknownRecipe listing the names there are."""
    try:
        return RECIPES[name]
    except KeyError:
        raise UnknownRecipe(f"no recipe '{name}'; there are: {', '.join(sorted(RECIPES))}") from None


RECIPES: dict[str, Recipe] = {"default": Recipe()}
