"""Overriding a recipe keeps its types and names every mistake."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from shopsight.training.pipeline.overrides import ConfigError, as_dict, overridden
from shopsight.training.pipeline.recipes import recipe


@dataclass(frozen=True)
class Inner:
    factors: int = 8
    rate: float = 0.5
    sizes: tuple[int, ...] = (1, 2)
    words: tuple[str, ...] = ()
    name: str | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    fast: bool = False


def test_settings_go_over_the_file_and_the_file_over_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "over.toml"
    path.write_text("fast = true\n[inner]\nfactors = 16\nrate = 1\n")
    config = overridden(Outer(), toml_path=path, settings=["inner.factors=32", "inner.name=mail"])
    assert config == Outer(Inner(factors=32, rate=1.0, name="mail"), fast=True)
    assert isinstance(config.inner.rate, float)


def test_lists_become_tuples() -> None:
    assert overridden(Outer(), settings=["inner.sizes=[3, 4, 5]"]).inner.sizes == (3, 4, 5)


def test_a_resolved_config_is_plain_data() -> None:
    assert as_dict(Outer()) == {
        "inner": {"factors": 8, "rate": 0.5, "sizes": (1, 2), "words": (), "name": None},
        "fast": False,
    }


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("inner.factor=3", "did you mean 'factors'"),
        ("nothing=3", "no setting of Outer"),
        ("inner.factors=many", "'factors' takes"),
        ("inner.factors=true", "'factors' takes"),
        ("inner.factors", "expected key=value"),
        ("fast=1", "'fast' takes"),
    ],
)
def test_a_mistaken_setting_is_named(setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        overridden(Outer(), settings=[setting])


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "inner.factors=many",
            "'factors' takes a whole number, not 'many'; for example --set inner.factors=8",
        ),
        ("inner.factors=[1]", "'factors' takes a whole number, not [1]; for example --set inner.factors=8"),
        ("inner.factors=1.5", "'factors' takes a whole number, not 1.5; for example --set inner.factors=8"),
        ("inner.rate=many", "'rate' takes a number, not 'many'; for example --set inner.rate=0.5"),
        ("inner.rate=[0.1]", "'rate' takes a number, not [0.1]; for example --set inner.rate=0.5"),
        ("inner.sizes=many", "'sizes' takes a list of whole numbers, not 'many'; "),
        ("inner.sizes=3", "not 3; for example --set 'inner.sizes=[1, 2]'"),
        ("inner.sizes=['a']", "'sizes' takes a list of whole numbers, not ['a']; "),
        ("inner.words=3", "takes a list of texts, not 3; for example --set 'inner.words=[\"text\"]'"),
        ("inner.name=5", "'name' takes text or nothing, not 5; for example --set inner.name=text"),
        ("fast=many", "'fast' takes true or false, not 'many'; for example --set fast=false"),
        ("inner=many", "'inner' has settings of its own; name one of factors, rate, sizes, words, name"),
    ],
)
def test_a_value_of_another_type_is_told_with_the_type_and_an_example(setting: str, said: str) -> None:
    with pytest.raises(ConfigError) as told:
        overridden(Outer(), settings=[setting])
    assert said in str(told.value)


def _leaves(config: Any, path: str = "") -> Iterator[str]:
    for one in fields(config):
        value = getattr(config, one.name)
        name = f"{path}{one.name}"
        if is_dataclass(value):
            yield from _leaves(value, f"{name}.")
        else:
            yield name


@pytest.mark.parametrize("name", sorted(_leaves(recipe("default"))))
def test_every_setting_refuses_a_table_and_its_example_is_accepted(name: str) -> None:
    with pytest.raises(ConfigError) as told:
        overridden(recipe("default"), settings=[f"{name}={{wrong = 1}}"])
    example = shlex.split(str(told.value).partition("for example ")[2])
    assert example[0] == "--set" and example[1].startswith(f"{name}=")
    try:
        overridden(recipe("default"), settings=example[1:])
    except ConfigError as error:  # a made-up text may break the family's own rules, but not the type
        assert "takes" not in str(error)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("fast = = 1")
    with pytest.raises(ConfigError, match=r"broken\.toml: not valid TOML"):
        overridden(Outer(), toml_path=path)
    with pytest.raises(ConfigError, match="no such configuration file"):
        overridden(Outer(), toml_path=tmp_path / "absent.toml")
