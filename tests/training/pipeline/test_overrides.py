"""Overriding a recipe keeps its types and names every mistake."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shopsight.training.pipeline.overrides import ConfigError, as_dict, overridden


@dataclass(frozen=True)
class Inner:
    factors: int = 8
    rate: float = 0.5
    sizes: tuple[int, ...] = (1, 2)
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
        "inner": {"factors": 8, "rate": 0.5, "sizes": (1, 2), "name": None},
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


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("fast = = 1")
    with pytest.raises(ConfigError, match=r"broken\.toml: not valid TOML"):
        overridden(Outer(), toml_path=path)
    with pytest.raises(ConfigError, match="no such configuration file"):
        overridden(Outer(), toml_path=tmp_path / "absent.toml")
