"""Segments' names are short, distinct and lasting; descriptions are sentences without jargon."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopsight.training import profiles
from shopsight.training.profiles.checkpoint import load
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.describe import NEWCOMERS, describe, figure
from shopsight.training.profiles.feature_list import shop_features
from shopsight.training.profiles.naming import choose_parts, compose, distinct
from shopsight.training.profiles.scaling import fit_scaling
from shopsight.training.profiles.segments import SegmentModel
from shopsight.training.profiles.spec import FeatureSpec
from tests.training.small_shop import tastes_shop

FEATURES = shop_features(("web", "app"), ("Books", "Toys"), (30.0,), ("order_status",))
SPEC = FeatureSpec(FEATURES, ("web", "app"), ("Books", "Toys"), ("order_status",), "EUR", (30.0,))


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (["taste:Books"], "Books shoppers"),
        (["before:Lapsed"], "Lapsed customers"),
        (["who:bargain hunters", "taste:Home"], "Home bargain hunters"),
        (["after:in the app", "taste:Books", "taste:Toys", "before:Evening"],
         "Evening Books & Toys shoppers in the app"),
    ],
)  # fmt: skip
def test_parts_make_a_name(parts: list[str], name: str) -> None:
    assert compose(parts) == name


def test_a_weak_second_trait_stays_out_of_the_name_unless_it_is_needed() -> None:
    telling = [("before:New", 1.6), ("who:light buyers", 0.7), ("after:in the app", 0.3)]
    assert choose_parts(telling, set()) == ("before:New",)
    assert choose_parts(telling, {"New customers"}) == ("before:New", "who:light buyers")
    assert choose_parts([], set()) == ()


def test_a_slot_is_filled_once() -> None:
    assert choose_parts([("before:New", 1.0), ("before:Evening", 0.9), ("taste:Toys", 0.8)], set()) == (
        "before:New",
        "taste:Toys",
    )


PARTS = sorted({part for f in FEATURES for part in (f.name_high, f.name_low) if part})


@given(st.lists(st.lists(st.tuples(st.sampled_from(PARTS), st.floats(0.2, 3.0)), max_size=6), max_size=12))
def test_no_two_segments_are_called_alike(segments: list[list[tuple[str, float]]]) -> None:
    taken: list[str] = [NEWCOMERS]
    for telling in segments:
        ordered = sorted(telling, key=lambda pair: -pair[1])
        taken.append(distinct(choose_parts(ordered, taken), taken))
    assert len(set(taken)) == len(taken)
    assert all(name and len(name) < 140 for name in taken)


def test_every_feature_can_be_told() -> None:
    for feature in FEATURES:
        assert feature.label and feature.high and feature.low, feature.name
        assert feature.topic and feature.group
        told = f"{feature.label} {feature.high} {feature.low} {feature.name_high} {feature.name_low}"
        assert not re.search(r"log1p|nan|_|entropy|percentile|variance", told), feature.name
    assert len({feature.name for feature in FEATURES}) == len(FEATURES)


def test_descriptions_are_sentences_with_figures_and_without_jargon(tmp_path: Path) -> None:
    workspace = tastes_shop(tmp_path)
    profiles.train(workspace, ProfilesConfig(num_bootstraps=2, max_segments=4), lambda _: None)
    told = load(workspace).segments
    for segment in told[:-1]:
        assert re.match(
            r"[\d,]+ customers, \d+% of all, with \d+% of the spending\. ", segment["description"]
        )
        assert "What strikes most: they " in segment["description"]
        assert ", others " in segment["description"]
        assert not re.search(r"nan|None|inf\b|_|effect|  ", segment["description"]), segment["description"]
    assert "with fewer than 3 events" in told[-1]["description"]


def _model(raw: np.ndarray) -> SegmentModel:  # type: ignore[type-arg]
    scaling = fit_scaling(raw, SPEC, prior_events=3.0, volume_weight=0.25)
    components = np.eye(len(FEATURES), dtype=np.float32)
    offset = np.zeros(len(FEATURES), np.float32)
    return SegmentModel(SPEC, scaling, components, offset, np.zeros((2, len(FEATURES)), np.float32), 3)


def _two_groups() -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Group 0 looks at Books in the evening, group 1 neither; nothing else differs."""
    raw = np.full((80, len(FEATURES)), 5.0, np.float32)
    group = np.arange(80) % 2
    raw[:, SPEC.index("view_share.Books")] = np.where(group == 0, 0.9, 0.1)
    raw[:, SPEC.index("hour_share.evening")] = np.where(group == 0, 0.6, 0.2 + (np.arange(80) % 4 == 1) * 0.5)
    raw[:, SPEC.index("num_views")] = 50
    return raw, group


def test_what_was_planted_is_what_is_told() -> None:
    raw, group = _two_groups()
    readers, others, newcomers = describe(_model(raw), raw, group, ["S1", "S2"])
    assert readers.name == "Books shoppers" or readers.name == "Evening Books shoppers"
    assert readers.traits[0].feature == "view_share.Books"
    assert (readers.traits[0].inside, readers.traits[0].outside) == pytest.approx((0.9, 0.1))
    assert readers.traits[0].effect == pytest.approx(2.0, abs=0.01)
    assert "look at Books (views of Books: 90%, others 10%)" in readers.description
    assert others.traits[0].effect == pytest.approx(-2.0, abs=0.01)
    assert (newcomers.key, newcomers.num_customers) == ("newcomers", 0)


def test_a_name_lasts_while_it_still_fits() -> None:
    raw, group = _two_groups()
    kept = ("before:Evening", "taste:Books")
    readers, *_ = describe(_model(raw), raw, group, ["S1", "S2"], {"S1": kept})
    assert (readers.name, readers.name_parts) == ("Evening Books shoppers", kept)
    readers, *_ = describe(_model(raw), raw, group, ["S1", "S2"], {"S1": ("taste:Toys",)})
    assert "Toys" not in readers.name


def test_segments_that_nothing_sets_apart_are_told_so() -> None:
    raw = np.full((40, len(FEATURES)), 5.0, np.float32)
    first, second, _ = describe(_model(raw), raw, np.arange(40) % 2, ["S1", "S2"])
    assert (first.name, second.name) == ("Average customers", "Average customers (2)")
    assert "Nothing sets them apart" in first.description


def test_figures_are_written_as_people_read_them() -> None:
    money, days = (FEATURES[SPEC.index(name)] for name in ("monetary_total", "recency_days"))
    share = FEATURES[SPEC.index("return_rate")]
    assert figure(1316.04, money, "GBP") == "1,316 GBP"
    assert figure(9.5, money, None) == "9.50"
    assert figure(38.4, days, None) == "38"
    assert figure(0.337, share, None) == "34%"
    assert figure(None, share, None) == "nothing"


def test_an_effect_against_its_own_figures_is_not_told() -> None:
    """Imputation can turn a mean: who has few values, all high, must not be told to have little."""
    raw, group = _two_groups()
    at = SPEC.index("rating_mean")
    raw[:, at] = np.nan
    raw[group == 0, at] = np.where(np.arange(40) < 2, 1.0, np.nan)
    raw[group == 1, at] = np.where(np.arange(40) < 39, 3.0, 1.0)
    model = _model(raw)
    skewed = replace(model, scaling=replace(model.scaling, fill=np.full(len(FEATURES), 9.0, np.float32)))
    for segment in describe(skewed, raw, group, ["S1", "S2"])[:2]:
        for trait in segment.traits:
            assert trait.inside is not None and trait.outside is not None
            assert (trait.inside - trait.outside) * trait.effect > 0
