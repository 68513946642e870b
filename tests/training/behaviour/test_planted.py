"""What the synthetic shop planted in its customers' behaviour is found from its raw files."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.behaviour.analyses import analyse_basket, analyse_cohorts, analyse_funnel
from shopsight.training.data.ingest import ingest
from shopsight.training.data.shop import ShopSpec, make_shop
from shopsight.training.evaluation.proportions import wilson

KEY = PseudonymKey("test", b"k" * 32)


def made(root: Path, *, behaviour: bool) -> Workspace:
    spec = ShopSpec(num_customers=2_500, seed=4, messages_per_customer=0, behaviour=behaviour)
    make_shop(spec, root / "raw", root / "truth")
    ingest(root / "raw" / "sources.toml", Workspace(root / "workspace"), KEY)
    return Workspace(root / "workspace")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return made(tmp_path_factory.mktemp("planted"), behaviour=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return made(tmp_path_factory.mktemp("plain"), behaviour=False)


@pytest.fixture(scope="module")
def truth(planted: Workspace) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((planted.root.parent / "truth" / "behaviour.json").read_text())
    return content


def test_the_step_that_loses_app_users_is_found_with_its_week(
    planted: Workspace, truth: dict[str, Any]
) -> None:
    found = analyse_funnel(planted)
    first = found.tables["changes"].row(0, named=True)
    assert (first["channel"], first["step"]) == (truth["funnel"]["channel"], truth["funnel"]["step"])
    since = date.fromisoformat(truth["funnel"]["since"])
    assert first["since"] == since - timedelta(days=since.weekday())
    assert first["after"] / first["before"] == pytest.approx(1 - truth["funnel"]["share_lost"], abs=0.08)
    assert any(f"since the week of {first['since']}" in note for note in found.notes)


def test_the_app_of_a_shop_without_the_loss_shows_no_change(plain: Workspace) -> None:
    assert analyse_funnel(plain).tables["changes"].filter(channel="app").is_empty()
    assert not (plain.root.parent / "truth" / "behaviour.json").exists()


def test_the_pair_is_the_most_certain_of_all(
    planted: Workspace, plain: Workspace, truth: dict[str, Any]
) -> None:
    first = analyse_basket(planted).tables["pairs"].row(0, named=True)
    pair = {truth["basket"]["item_a"], truth["basket"]["item_b"]}
    assert {first["item_a"], first["item_b"]} == pair
    share = first["share_of_a"] if first["item_a"] == truth["basket"]["item_a"] else first["share_of_b"]
    assert share == pytest.approx(truth["basket"]["share_of_a"], abs=0.12)
    pairs = analyse_basket(plain).tables["pairs"]
    assert pairs.filter(pl.col("item_a").is_in(pair) & pl.col("item_b").is_in(pair)).is_empty()


def test_the_cohort_that_does_not_stay_is_found(planted: Workspace, truth: dict[str, Any]) -> None:
    people = analyse_cohorts(planted).tables["people"].filter(pl.col("period").is_between(2, 3))
    start = date.fromisoformat(truth["cohort"]["joined_from"])
    near = people.filter(pl.col("cohort").is_between(date(2025, 12, 1), date(2026, 4, 1)))
    near = near.drop_nulls("bought").with_columns(own=pl.col("cohort") == start)
    sums = near.group_by("own").agg(pl.col("bought", "customers").sum())
    (own,), (others,) = (sums.filter(own=own).select("bought", "customers").rows() for own in (True, False))
    assert wilson(*own)[1] < wilson(*others)[0]
