"""Families: what their descriptors promise, and what is refused of a descriptor."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from shopsight.training.artifacts.family import Family, Search
from shopsight.training.pipeline.families import FAMILIES, NAMES, UnknownFamily, check, named
from shopsight.training.pipeline.recipes import Recipe


@dataclasses.dataclass(frozen=True)
class _Config:
    size: int = 3


def _family(**changes: Any) -> Family:
    given: dict[str, Any] = {
        "name": "weather",
        "config": _Config,
        "requires": ("events",),
        "train": lambda *_: {},
        "evaluate": lambda *_: {},
        "export": lambda *_: [],
        "erasure": "nothing",
    }
    return Family(**given | changes)


def test_a_recipe_has_the_defaults_of_every_family() -> None:
    recipe = Recipe()
    assert [field.name for field in dataclasses.fields(recipe)] == list(NAMES)  # type: ignore[arg-type]
    assert all(recipe.of(family.name) == family.config() for family in FAMILIES)


def test_the_package_of_a_family_has_its_descriptor() -> None:
    root = Path(__file__).parents[3] / "training"
    assert {path.parent.name for path in root.rglob("family.py")} - {"artifacts"} == set(NAMES)


def test_an_unknown_family_is_told_with_those_that_there_are() -> None:
    with pytest.raises(UnknownFamily, match=r"no family of models 'recomend'; there are: .*recommend.*, all"):
        named("recomend")


@pytest.mark.parametrize(
    ("families", "words"),
    [
        ((_family(), _family()), "two families are called 'weather'; rename one"),
        ((_family(called_by="recommend"),), "weather: 'recommend' is no family that stands before it"),
        (
            (_family(name="a", export=None, served_in="b"), _family(name="b")),
            "a: 'b' is no family that stands before it",
        ),
    ],
)
def test_families_that_contradict_each_other_are_refused(families: tuple[Family, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check(families)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"export": None}, "give either export or served_in"),
        ({"served_in": "profiles"}, "give either export or served_in"),
        (
            {"search": Search({"rain.size": [1]}, (), frozenset(), lambda _: 1, lambda *_: None)},
            "its search space names rain.size",
        ),
    ],
)
def test_a_descriptor_that_contradicts_itself_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _family(**changes)


def test_a_descriptor_that_lacks_a_part_names_it() -> None:
    with pytest.raises(TypeError, match="evaluate"):
        Family(
            name="weather", config=_Config, requires=(), train=lambda *_: {}, export=None, erasure="nothing"
        )  # type: ignore[call-arg]
