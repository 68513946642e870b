"""Complete named recipes: every setting of every family of models, overridable by file and by key."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shopsight.training.pipeline.families import FAMILIES


class _Recipe:
    """What `train`, `evaluate` and `export` do: one field a family, its configuration."""

    if TYPE_CHECKING:

        def __init__(self, **configs: Any) -> None: ...

        def __getattr__(self, family: str) -> Any: ...

    def of(self, family: str) -> Any:
        """Return the configuration of a family."""
        return getattr(self, family)

    def replaced(self, configs: Mapping[str, Any]) -> Recipe:
        """Return the recipe with other configurations for some families."""
        return dataclasses.replace(self, **configs)  # type: ignore[type-var]


if TYPE_CHECKING:
    Recipe = _Recipe
else:
    Recipe = dataclasses.make_dataclass(
        "Recipe",
        [(f.name, f.config, dataclasses.field(default_factory=f.config)) for f in FAMILIES],
        bases=(_Recipe,),
        frozen=True,
        namespace={"__module__": __name__},  # where pickle, by which Ray sends it, looks for the class
    )


class UnknownRecipe(ValueError):  # noqa: N818 - reads as what happened
    """No recipe has this name."""


def recipe(name: str) -> Recipe:
    """Return the recipe called `name`; raises UnknownRecipe listing the names there are."""
    try:
        return RECIPES[name]
    except KeyError:
        raise UnknownRecipe(f"no recipe '{name}'; there are: {', '.join(sorted(RECIPES))}") from None


_DEFAULT = Recipe()
# What `demo --quick` trains: fewer steps and one choice of weights, on a shop that is small anyway.
_QUICK = _DEFAULT.replaced(
    {
        "language": dataclasses.replace(_DEFAULT.language, epochs=3, least_steps=80),
        "recommend": dataclasses.replace(
            _DEFAULT.recommend, iterations=6, unobserved_weights=(0.1,), regularizations=(0.05,)
        ),
    }
)
RECIPES: dict[str, Recipe] = {"default": _DEFAULT, "quick": _QUICK}
