"""Segments keep their keys from training to training, and who moved between them is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopsight.training import profiles
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.matching import match_segments
from shopsight.training.profiles.migration import migrate
from tests.training.small_shop import tastes_shop

NAMES = {"S1": "Readers", "S2": "Gardeners", "newcomers": "Hardly known customers"}


def _frame(**keys: str) -> pl.DataFrame:
    return pl.DataFrame({"customer_id": list(keys), "key": list(keys.values())})


def test_moves_are_counted_and_told() -> None:
    earlier = _frame(a="S1", b="S1", c="S2", d="newcomers", gone="S2")
    later = _frame(a="S1", b="S2", c="S2", d="S1", new="newcomers")
    moves = migrate(earlier, later, NAMES, before="in May", after="in June")
    assert [segment["key"] for segment in moves.segments] == ["S1", "S2", "newcomers", "absent"]
    assert moves.counts == ((1, 1, 0, 0), (0, 1, 0, 1), (1, 0, 0, 0), (0, 0, 1, 0))
    assert moves.stayed_share == 0.5
    assert "Of the 4 customers there both in May and in June, 50% kept their segment." in moves.words
    assert "1 went from “Readers” to “Gardeners” (50% of the former)" in moves.words
    assert moves.words.endswith("New since: 1. No longer there: 1.")


def test_nobody_in_common_is_said() -> None:
    moves = migrate(_frame(a="S1"), _frame(b="S2"), NAMES, before="in May", after="in June")
    assert moves.stayed_share is None
    assert moves.words == "No customer was there both in May and in June."


@given(st.lists(st.tuples(st.sampled_from([*NAMES, None]), st.sampled_from([*NAMES, None])), max_size=40))
def test_every_customer_is_counted_once(moves: list[tuple[str | None, str | None]]) -> None:
    there = [(i, a, b) for i, (a, b) in enumerate(moves) if a or b]
    schema = {"customer_id": pl.String, "key": pl.String}
    earlier = pl.DataFrame([(str(i), a) for i, a, _ in there if a], schema, orient="row")
    later = pl.DataFrame([(str(i), b) for i, _, b in there if b], schema, orient="row")
    counted = np.array(migrate(earlier, later, NAMES, before="x", after="y").counts)
    assert counted.sum() == len(there)
    assert counted[-1, -1] == 0
    assert counted.trace() == sum(a == b for _, a, b in there)


def _clusters(sizes: list[int]) -> pl.DataFrame:
    segment = np.repeat(np.arange(len(sizes)), sizes)
    return pl.DataFrame({"customer_id": [f"c{i}" for i in range(len(segment))], "segment": segment})


@pytest.mark.parametrize("seed", range(5))
def test_permuted_clusters_keep_their_keys(seed: int) -> None:
    """k-means numbers its clusters anew each time; a fifth of the customers went elsewhere besides."""
    rng = np.random.default_rng(seed)
    now = _clusters([50, 40, 60, 30])
    key_of = np.array(["S4", "S1", "S7", "S2"])[rng.permutation(4)]
    keys = key_of[now["segment"].to_numpy()]
    moved = rng.random(len(keys)) < 0.2
    keys[moved] = rng.choice(key_of, moved.sum())
    earlier = now.select("customer_id").with_columns(key=pl.Series(keys)).sample(fraction=0.9, seed=seed)
    used = ["S1", "S2", "S3", "S4", "S5", "S6", "S7"]
    match = match_segments(now, [1.0, 2.0, 3.0, 4.0], earlier, used)
    assert dict(zip(match.order, match.keys, strict=True)) == dict(enumerate(key_of))
    assert match.keys == ["S1", "S2", "S4", "S7"]  # their old order


def test_a_segment_that_falls_apart_keeps_its_key_for_the_larger_part() -> None:
    now = _clusters([70, 30, 50])
    earlier = now.select(
        "customer_id", key=pl.when(pl.col("segment") < 2).then(pl.lit("S1")).otherwise(pl.lit("S2"))
    )
    match = match_segments(now, [1.0, 9.0, 5.0], earlier, ["S1", "S2"])
    assert dict(zip(match.order, match.keys, strict=True)) == {0: "S1", 2: "S2", 1: "S3"}


def test_a_segment_that_disappears_frees_no_key() -> None:
    now = _clusters([60, 60])
    earlier = now.select("customer_id", key=pl.Series(["S1"] * 60 + ["S2"] * 40 + ["S3"] * 20))
    first = match_segments(now, [1.0, 2.0], earlier, ["S1", "S2", "S3"])
    assert sorted(first.keys) == ["S1", "S2"]
    later = now.select("customer_id", key=pl.Series(["S1"] * 60 + ["newcomers"] * 60))
    second = match_segments(now, [1.0, 2.0], later, ["S1", "S2", "S3"])
    assert dict(zip(second.order, second.keys, strict=True)) == {0: "S1", 1: "S4"}


def test_nobody_known_before_makes_all_segments_new() -> None:
    earlier = pl.DataFrame({"customer_id": ["x"], "key": ["S1"]})
    assert match_segments(_clusters([5, 5]), [1.0, 2.0], earlier, ["S1"]).keys == ["S2", "S3"]


def test_training_reports_moves_since_an_earlier_day(tmp_path: Path) -> None:
    workspace = tastes_shop(tmp_path)
    config = ProfilesConfig(num_bootstraps=2, num_segments=3, migration_days=40)
    moves = profiles.train(workspace, config, lambda _: None)["migration"]
    assert moves["since_last_training"] is None
    counts = np.array(moves["over_time"]["counts"])
    assert counts[:, :-1].sum() == profiles.load(workspace).assigned.height
    assert counts[:3, :3].trace() > 0.7 * counts[:3, :3].sum()
    none = profiles.train(
        workspace, ProfilesConfig(num_bootstraps=2, num_segments=3, migration_days=0), print
    )
    assert none["migration"]["over_time"] is None
    again = none["migration"]["since_last_training"]
    assert again["stayed_share"] == 1.0
