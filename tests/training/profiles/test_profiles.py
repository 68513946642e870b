"""Segments: found, described, kept across trainings, and assigned by the served graph as in training."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest
from sklearn.metrics import adjusted_rand_score

from shopsight.serving.contract import ModelContract, read_goldens
from shopsight.serving.routing.profile import ProfileRouter
from shopsight.serving.routing.rows import Row
from shopsight.training import profiles
from shopsight.training.artifacts.goldens import member
from shopsight.training.artifacts.trained_state import NotTrained, saved_metrics
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.profiles.checkpoint import load
from shopsight.training.profiles.choosing import choose_number, comes_back
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.exporter import synthetic_rows
from shopsight.training.profiles.feature_list import shop_features
from shopsight.training.profiles.matching import match_segments
from shopsight.training.profiles.scaling import fit_scaling
from shopsight.training.profiles.segments import NotFinite, TooFewCustomers, fit_segments
from shopsight.training.profiles.spec import FeatureSpec
from tests.training.small_shop import event, tastes_shop, write_shop

CONFIG = ProfilesConfig(num_bootstraps=3, max_segments=5)


def _silent(_: str) -> None:
    return None


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Any]]:
    workspace = tastes_shop(tmp_path_factory.mktemp("tastes"))
    metrics = profiles.train(workspace, CONFIG, _silent)
    profiles.export(workspace, CONFIG)
    return workspace, metrics


def test_the_tastes_that_were_planted_are_found(trained: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, metrics = trained
    assigned = load(workspace).assigned.filter(~pl.col("customer_id").str.contains("silent"))
    planted = [int(c[1:]) % 3 for c in assigned["customer_id"]]
    assert adjusted_rand_score(planted, assigned["segment"]) > 0.8
    assert metrics["num_segments"] == 3
    assert [row["num_segments"] for row in metrics["tried"]] == [3, 4, 5]
    assert metrics["stability"] > 0.9


def test_segments_are_told_in_words_and_numbers(trained: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, metrics = trained
    told = load(workspace).segments
    assert [s["key"] for s in told] == ["S1", "S2", "S3", "newcomers"]
    assert len({s["name"] for s in told}) == len(told)
    words = " ".join(s["name"] for s in told[:3])
    assert all(w in words for w in ("Books", "Garden", "Toys"))
    assert sum(s["num_customers"] for s in told) == metrics["num_customers"]
    assert sum(s["size_share"] for s in told) == pytest.approx(1.0)
    assert sum(s["value_share"] for s in told) == pytest.approx(1.0)
    values = [s["value_share"] / s["size_share"] for s in told[:3]]
    assert values == sorted(values, reverse=True)
    for one in told[:3]:
        assert f"{one['num_customers']:,} customers" in one["description"]
        for trait in one["traits"]:
            assert (trait["inside"] > trait["outside"]) == (trait["effect"] > 0), trait


def test_customers_without_events_are_newcomers(trained: tuple[Workspace, dict[str, Any]]) -> None:
    assigned = load(trained[0]).assigned
    silent = assigned.filter(pl.col("customer_id").str.contains("silent"))
    assert silent["key"].to_list() == ["newcomers", "newcomers"]


def _rows(workspace: Workspace) -> np.ndarray[Any, Any]:
    """Raw rows of all sorts: measured, with holes, extreme, infinite, empty."""
    trained = load(workspace)
    rng = np.random.default_rng(0)
    num = len(trained.model.spec.features)
    usual = synthetic_rows(trained.model, rng.exponential(5.0, (50, num)).astype(np.float32))
    holes = rng.exponential(3.0, (200, num)).astype(np.float32)
    holes[rng.random(holes.shape) < 0.4] = np.nan
    extreme = (rng.normal(size=(50, num)) * 10.0 ** rng.integers(-30, 30, (50, num))).astype(np.float32)
    infinite = np.where(rng.random((20, num)) < 0.5, np.inf, -np.inf).astype(np.float32)
    shares = rng.random((200, num)).astype(np.float32)
    shares[:, trained.model.spec.index("num_events")] = rng.integers(0, 60, 200)
    zeros = np.zeros((1, num), np.float32)
    return np.concatenate([usual, holes, extreme, infinite, shares, zeros])


def test_the_graph_assigns_as_training_does(trained: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, _ = trained
    rows = _rows(workspace)
    with np.errstate(all="ignore"):
        segment, distance = load(workspace).model.assign(rows)
    session = onnxruntime.InferenceSession(str(workspace.models / "segment" / "model.onnx"))
    found, found_distance = session.run(["SEGMENT", "DISTANCE"], {"FEATURE": rows})
    assert np.isfinite(found_distance).all()
    np.testing.assert_allclose(found_distance, distance, atol=1e-5)
    ordered = np.sort(distance, axis=1)
    clear = ordered[:, 1] - ordered[:, 0] > 1e-4
    assert clear.mean() > 0.9 and len(set(segment[clear])) == 4
    np.testing.assert_array_equal(found[clear, 0], segment[clear])


def test_one_row_and_many_rows_are_assigned_alike(trained: tuple[Workspace, dict[str, Any]]) -> None:
    session = onnxruntime.InferenceSession(str(trained[0].models / "segment" / "model.onnx"))
    rows = _rows(trained[0])[:60]
    together = session.run(["SEGMENT"], {"FEATURE": rows})[0]
    alone = [session.run(["SEGMENT"], {"FEATURE": row[None]})[0][0] for row in rows]
    np.testing.assert_array_equal(together, np.array(alone))


def test_the_endpoint_profiles_a_customer_as_training_did(trained: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, _ = trained
    router = ProfileRouter(workspace.models / "profile", release="1")
    ask = member(workspace.models / "segment" / "model.onnx")
    state = load(workspace)
    for customer, name in state.assigned.select("customer_id", "name").sample(15, seed=1).iter_rows():
        asked = np.array([customer.encode()], dtype=np.object_)
        answer = router.answer([Row({"CUSTOMER_ID": asked})], ask)[0]
        assert isinstance(answer, dict)
        assert answer["SEGMENT"].tolist() == [name.encode()]
        assert [n.decode() for n in answer["FEATURE_NAME"]] == state.model.spec.names


def test_contracts_verify_and_goldens_cover_newcomers(trained: tuple[Workspace, dict[str, Any]]) -> None:
    models = trained[0].models
    for name in ("segment", "profile"):
        ModelContract.read(models / name).verify_files(models / name)
    names = [t.data[0] for g in read_goldens(models / "profile") for t in g.answer if t.name == "SEGMENT"]
    assert "Hardly known customers" in names and len(names) >= 2


def test_evaluate_repeats_the_figures_of_training(trained: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, metrics = trained
    again = profiles.evaluate(workspace, CONFIG)
    assert again["silhouette"] == metrics["silhouette"]
    assert again["silhouette"]["low"] <= again["silhouette"]["value"] <= again["silhouette"]["high"]
    assert saved_metrics(workspace, "profiles")["stability"] == metrics["stability"]


def test_keys_keep_their_meaning_when_trained_again_on_more(tmp_path: Path) -> None:
    profiles.train(tastes_shop(tmp_path, 90), CONFIG, _silent)
    first = load(Workspace(tmp_path)).assigned
    metrics = profiles.train(tastes_shop(tmp_path, 120, seed=5), replace(CONFIG, seed=9), _silent)
    second = load(Workspace(tmp_path)).assigned
    both = first.join(second, on="customer_id", suffix="_new").filter(pl.col("key") != "newcomers")
    assert (both["key"] == both["key_new"]).mean() > 0.9
    moves = metrics["migration"]["since_last_training"]
    assert moves["stayed_share"] > 0.9
    assert sum(map(sum, moves["counts"])) == second.height


def test_a_segment_that_is_new_gets_a_key_that_was_never_used() -> None:
    ids = [f"c{i}" for i in range(90)]
    now = pl.DataFrame({"customer_id": ids, "segment": [0] * 30 + [1] * 30 + [2] * 30})
    earlier = pl.DataFrame({"customer_id": ids[:60], "key": ["S3"] * 30 + ["S1"] * 30})
    match = match_segments(now, [1.0, 5.0, 9.0], earlier, used_keys=["S1", "S2", "S3"])
    assert match.keys == ["S1", "S3", "S4"]
    assert match.order == [1, 0, 2]


def test_a_first_training_orders_segments_by_value() -> None:
    now = pl.DataFrame({"customer_id": ["a", "b", "c"], "segment": [0, 1, 2]})
    match = match_segments(now, [1.0, 5.0, 3.0], None, [])
    assert (match.order, match.keys) == ([1, 2, 0], ["S1", "S2", "S3"])


def _two_channel_spec() -> FeatureSpec:
    features = shop_features(("web",), ("Books",), (30.0,))
    return FeatureSpec(features, ("web",), ("Books",), (), "EUR", (30.0,))


def test_a_share_of_few_events_moves_little_and_a_missing_one_not_at_all() -> None:
    spec = _two_channel_spec()
    rng = np.random.default_rng(0)
    raw = rng.random((100, len(spec.features))).astype(np.float32)
    at, support = spec.index("spend_share.Books"), spec.index("num_purchases")
    raw[:, support] = 20
    scaling = fit_scaling(raw, spec, prior_events=3.0, volume_weight=0.25)
    row = np.repeat(raw[:1], 3, axis=0)
    row[:, at] = [1.0, 1.0, np.nan]
    row[:, support] = [1, 400, 400]
    few, many, missing = scaling.transform(row)[:, at]
    prior = raw[:, at].mean()
    expected = np.sqrt(prior + 1 / 4 * (1 - prior))
    assert few == pytest.approx((expected - scaling.centre[at]) / scaling.scale[at], rel=1e-4)
    assert missing < few < many
    assert missing == pytest.approx((np.sqrt(prior) - scaling.centre[at]) / scaling.scale[at], rel=1e-3)


def test_a_feature_that_says_nothing_weighs_nothing() -> None:
    spec = _two_channel_spec()
    raw = np.random.default_rng(0).random((50, len(spec.features))).astype(np.float32)
    raw[:, spec.index("num_messages")] = 7.0
    raw[:, spec.index("rating_mean")] = np.nan
    scaling = fit_scaling(raw, spec, prior_events=3.0, volume_weight=0.25)
    scaled = scaling.transform(raw)
    for name in ("num_messages", "rating_mean"):
        assert (scaled[:, spec.index(name)] == 0).all()


def test_the_number_of_segments_is_that_of_the_clouds() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 12, (5, 4))
    points = (centres[rng.integers(0, 5, 600)] + rng.normal(size=(600, 4))).astype(np.float32)
    tried = choose_number(points, replace(CONFIG, max_segments=8), _silent)
    assert next(row["num_segments"] for row in tried if row["chosen"]) == 5


def test_where_no_number_comes_back_the_least_unstable_one_is_taken_and_said_so() -> None:
    points = np.random.default_rng(0).normal(size=(400, 12)).astype(np.float32)
    tried = choose_number(points, replace(CONFIG, max_segments=7), _silent)
    assert not any(comes_back(row) for row in tried)
    chosen = next(row for row in tried if row["chosen"])
    assert chosen["jaccard_min"] == max(row["jaccard_min"] for row in tried)


def test_too_few_customers_are_refused_with_the_remedy(tmp_path: Path) -> None:
    workspace = write_shop(tmp_path, [event("a", "x", "view", i / 10) for i in range(9)])
    with pytest.raises(TooFewCustomers, match="min_events"):
        profiles.train(workspace, CONFIG, _silent)
    assert not (workspace.checkpoints / "profiles").exists()


def test_export_without_training_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotTrained, match="shopsight train profiles"):
        profiles.export(write_shop(tmp_path, []), CONFIG)


def _fit(raw: np.ndarray[Any, Any], **settings: Any) -> Any:
    raw[:, _two_channel_spec().index("num_events")] = 9
    return fit_segments(raw, _two_channel_spec(), replace(CONFIG, **settings), _silent)


def test_customers_who_are_all_alike_are_refused_with_the_remedy() -> None:
    raw = np.ones((40, len(_two_channel_spec().features)), dtype=np.float32)
    with pytest.raises(TooFewCustomers, match="behave in 1 different ways, 3 segments need 3"):
        _fit(raw)


def test_no_more_segments_are_tried_than_there_are_ways_to_behave() -> None:
    spec = _two_channel_spec()
    raw = np.ones((60, len(spec.features)), dtype=np.float32)
    raw[:, spec.index("num_messages")] = np.arange(60) % 4
    _, tried = _fit(raw, max_segments=9)
    assert [row["num_segments"] for row in tried] == [3, 4]
    with pytest.raises(TooFewCustomers, match="4 different ways, 7 segments need 7"):
        _fit(raw, num_segments=7)


@pytest.mark.parametrize("wanted", [11, 400])
def test_more_segments_than_customers_allow_are_refused(wanted: int) -> None:
    raw = np.random.default_rng(0).random((20, len(_two_channel_spec().features))).astype(np.float32)
    with pytest.raises(TooFewCustomers, match=f"{wanted} segments need {2 * wanted}"):
        _fit(raw, num_segments=wanted)


def test_an_infinite_feature_is_refused_by_name() -> None:
    spec = _two_channel_spec()
    raw = np.random.default_rng(0).random((20, len(spec.features))).astype(np.float32)
    raw[3:5, spec.index("monetary_total")] = np.inf
    with pytest.raises(NotFinite, match="monetary_total is infinite for 2 customers"):
        _fit(raw)


@pytest.mark.parametrize(
    "settings",
    [
        {"half_lives_days": ()}, {"half_lives_days": (0.0,)}, {"half_lives_days": (7.0, 7.0)},
        {"num_segments": 1}, {"min_segments": 1}, {"min_segments": 5, "max_segments": 4}, {"variance": 0.0},
        {"migration_days": -1}, {"prior_events": 0.0}, {"timezone": "Mars/Olympus"},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_with_their_value(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=re.escape(str(next(iter(settings.values()))))):
        ProfilesConfig(**settings)
