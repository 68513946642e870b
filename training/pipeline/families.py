"""The families of models, in the order of training: a new one is its own package and one line here."""

from __future__ import annotations

from shopsight.training.artifacts.family import Family
from shopsight.training.language.family import FAMILY as LANGUAGE
from shopsight.training.profiles.family import FAMILY as PROFILES
from shopsight.training.recommend.embedding.family import FAMILY as EMBEDDING
from shopsight.training.recommend.family import FAMILY as RECOMMEND
from shopsight.training.value.family import FAMILY as VALUE

# What the language model reads in messages is measured in profiles, and segments are used by recommend.
FAMILIES: tuple[Family, ...] = (LANGUAGE, PROFILES, VALUE, RECOMMEND, EMBEDDING)
NAMES = tuple(family.name for family in FAMILIES)


class UnknownFamily(ValueError):  # noqa: N818 - reads as what happened
    """No family of models has this name."""


def named(name: str) -> Family:
    """Return the family of this name; raises UnknownFamily listing the names there are."""
    for family in FAMILIES:
        if family.name == name:
            return family
    raise UnknownFamily(f"no family of models '{name}'; there are: {', '.join(NAMES)}, all")


def check(families: tuple[Family, ...]) -> None:
    """Raise ValueError where two families have one name, or one names another that is not before it."""
    seen: set[str] = set()
    for family in families:
        if family.name in seen:
            raise ValueError(f"two families are called '{family.name}'; rename one in its family.py")
        for other in filter(None, (family.served_in, family.called_by)):
            if other not in seen:
                raise ValueError(f"family {family.name}: '{other}' is no family that stands before it")
        seen.add(family.name)


check(FAMILIES)
