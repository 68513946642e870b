"""Paths against a loop over sessions."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import groupby, pairwise

import polars as pl
import pytest

from shopsight.training.behaviour.errors import BehaviourError
from shopsight.training.behaviour.paths import paths
from shopsight.training.evaluation.proportions import wilson
from tests.training.behaviour.test_funnel import shop, slow_sessions
from tests.training.small_shop import START, event, table


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("max_steps", [1, 3, 50])
def test_paths_and_transitions_are_those_of_a_loop(seed: int, max_steps: int) -> None:
    events = shop(seed)
    found = paths(events.lazy(), gap_minutes=25, max_steps=max_steps)
    counts: dict[str, Counter[str]] = {}
    moves: Counter[tuple[str, str]] = Counter()
    for rows in slow_sessions(events, 25):
        steps = [kind for kind, _ in groupby(r["event"] for r in rows)]
        moves.update(pairwise([*steps, "end"]))
        path = " > ".join(steps[:max_steps]) + (" > …" if len(steps) > max_steps else "")
        for value in ("all", rows[0]["channel"] or "unknown"):
            counts.setdefault(value, Counter())[path] += 1
    rows = found.paths.to_dicts()
    assert {(r["value"], r["path"]): r["sessions"] for r in rows} == {
        (value, path): n for value, of in counts.items() for path, n in of.items()
    }
    assert found.num_sessions == counts["all"].total()
    for r in rows:
        assert (r["share_low"], r["share_high"]) == pytest.approx(
            wilson(r["sessions"], counts[r["value"]].total())
        )
    most = found.paths.filter(group="all")["sessions"].to_list()
    assert most == sorted(most, reverse=True)
    assert {(r["step"], r["next_step"]): r["times"] for r in found.transitions.to_dicts()} == moves
    assert found.transitions.group_by("step").agg(pl.col("share").sum())["share"].to_list() == pytest.approx(
        [1.0] * len({step for step, _ in moves})
    )


def test_a_session_belongs_to_the_period_in_which_it_begins() -> None:
    rows = [event("a", "i", "view", 0.99), event("a", "i", "cart", 1.001), event("a", "i", "view", 5)]
    both = {"since": START + timedelta(days=0.5), "until": START + timedelta(days=1)}
    assert paths(table("events", rows).lazy(), **both).paths["path"].to_list() == ["view > cart"] * 2


def test_impossible_settings_and_no_sessions_are_refused() -> None:
    with pytest.raises(BehaviourError, match="max_steps is 0"):
        paths(shop(0).lazy(), max_steps=0)
    with pytest.raises(BehaviourError, match="there are no sessions in this period"):
        paths(table("events", []).lazy())
