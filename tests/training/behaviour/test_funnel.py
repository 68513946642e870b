"""Funnels against a loop over every session, with optional steps, equal times and customers who came back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from statistics import median
from typing import Any

import numpy as np
import polars as pl
import pytest

from shopsight.training.behaviour.errors import BehaviourError
from shopsight.training.behaviour.funnel import funnel
from shopsight.training.behaviour.sessions import sessions
from shopsight.training.evaluation.proportions import wilson
from tests.training.small_shop import START, event, table

MINUTE = 1 / 1440


def shop(seed: int, num: int = 1_200) -> pl.DataFrame:
    """Return random events of few people, so that sessions are long, with equal times and anonymous rows."""
    rng = np.random.default_rng(seed)
    kinds = ("view", "search", "cart", "purchase", "return")
    rows = []
    for n in range(num):
        who = int(rng.integers(12))
        rows.append(
            event(
                f"c{who}" if who < 10 else None,
                f"i{int(rng.integers(5))}",
                kinds[int(rng.choice(5, p=[0.4, 0.1, 0.25, 0.2, 0.05]))],
                float(rng.integers(30)) + float(rng.integers(12)) * 10 * MINUTE,
                session_id=f"s{who}" if who == 10 else None,
                channel=["web", "app", None][int(rng.integers(3))],
                line_id=str(n),
            )
        )
    return table("events", rows)


def slow_sessions(events: pl.DataFrame, gap: float) -> list[list[dict[str, Any]]]:
    by_visitor: dict[Any, list[dict[str, Any]]] = {}
    for row in events.to_dicts():
        visitor = row["customer_id"] or (row["session_id"] and (row["channel"], row["session_id"]))
        if visitor and row["event"] != "return":
            by_visitor.setdefault(visitor, []).append(row)
    found = []
    for rows in by_visitor.values():
        rows.sort(key=lambda r: (r["timestamp"], r["event_id"]))
        for n, row in enumerate(rows):
            if not n or row["timestamp"] - rows[n - 1]["timestamp"] > timedelta(minutes=gap):
                found.append([])
            found[-1].append(row)
    return found


def slow_progress(rows: list[dict[str, Any]], steps: Sequence[str]) -> list[int | None]:
    """Return the position at which each step was taken, by plain loops."""
    names = [s.rstrip("?") for s in steps]
    turn = {name: k for k, name in enumerate(names)}
    rows.sort(key=lambda r: (r["timestamp"], turn.get(r["event"], len(names)), r["event_id"]))
    taken: list[int | None] = [None] * len(steps)
    last = -1
    required = [k for k, s in enumerate(steps) if not s.endswith("?")]
    for k in required:
        found = [n for n, r in enumerate(rows) if r["event"] == names[k] and n > last]
        if not found:
            break
        taken[k] = last = found[0]
    for k, step in enumerate(steps):
        if step.endswith("?"):
            before = max(j for j in required if j < k)
            if taken[before] is None:
                continue
            low = max(p for p in taken[before:k] if p is not None)
            end = taken[min(j for j in required if j > k)]
            high = len(rows) if end is None else end
            found = [n for n, r in enumerate(rows) if r["event"] == names[k] and low < n < high]
            taken[k] = found[0] if found else None
    return taken


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "steps",
    [
        ("view", "purchase"),
        ("view", "cart", "purchase"),
        ("view", "cart?", "purchase"),
        ("view", "search?", "cart?", "purchase"),
        ("search", "view", "cart?", "purchase"),
    ],
)
def test_the_figures_are_those_of_a_loop_over_sessions(seed: int, steps: tuple[str, ...]) -> None:
    events = shop(seed)
    found = funnel(events.lazy(), steps, gap_minutes=25)
    states = [(rows, slow_progress(rows, steps)) for rows in slow_sessions(events, 25)]
    entered = [(rows, taken) for rows, taken in states if taken[0] is not None]
    for channel in (None, "web", "app", "unknown"):
        group, value = ("all", "all") if channel is None else ("channel", channel)
        ours = found.steps.filter(group=group, value=value)
        mine = [
            (rows, taken)
            for rows, taken in entered
            if channel is None or (rows[taken[0]]["channel"] or "unknown") == channel
        ]
        for k, name in enumerate(steps):
            row = ours.row(k, named=True)
            reached = [(rows, taken) for rows, taken in mine if taken[k] is not None]
            assert (row["step"], row["reached"]) == (name.rstrip("?"), len(reached))
            assert (row["share_low"], row["share_high"]) == pytest.approx(wilson(len(reached), len(mine)))
            furthest = [max(j for j, p in enumerate(taken) if p is not None) for _, taken in mine]
            last = k == len(steps) - 1
            assert row["dropped_out"] == (0 if last else sum(j == k for j in furthest))
            if not k or not reached:
                assert row["median_seconds"] is None and row["median_clicks"] is None
                continue
            before = max(j for j in range(k) if not steps[j].endswith("?"))
            previous = [taken for _, taken in mine if taken[before] is not None]
            assert row["continued"] == pytest.approx(len(reached) / len(previous))
            spans = [
                (rows[taken[k]]["timestamp"] - rows[taken[before]]["timestamp"]).total_seconds()
                for rows, taken in reached
            ]
            assert row["median_seconds"] == pytest.approx(median(spans))
            assert row["median_clicks"] == median(taken[k] - taken[before] for _, taken in reached)


def test_the_weeks_add_up_to_the_channels() -> None:
    found = funnel(shop(4).lazy(), ("view", "cart?", "purchase"))
    totals = found.weeks.group_by("channel").agg(pl.col("previous", "reached").sum())
    steps = found.steps.filter(group="channel", step="purchase").rename({"value": "channel"})
    both = totals.join(steps.select("channel", ours="reached"), on="channel")
    assert both.height == 3 and (both["reached"] == both["ours"]).all()
    assert found.weeks["week"].dt.weekday().unique().to_list() == [1]


def test_who_dropped_out_left_the_last_time_and_did_not_buy_since() -> None:
    rows = [
        event("left", "i", "view", 0),
        event("left", "i", "cart", 0.001),
        event("bought", "i", "view", 0),
        event("bought", "i", "purchase", 0.001),
        event("came back", "i", "view", 0),
        event("came back", "i", "view", 3),
        event("came back", "i", "purchase", 3.001),
        event("bought elsewhere", "i", "view", 0),
        event("bought elsewhere", "i", "purchase", 9, channel="store"),
        event("left again", "i", "view", 0),
        event("left again", "i", "purchase", 0.001),
        event("left again", "i", "view", 5, channel="app"),
        event(None, "i", "view", 0, session_id="s"),
    ]
    segments = pl.DataFrame({"customer_id": ["left"], "name": ["Tinkerers"]})
    steps = ("view", "cart?", "purchase")
    lost = funnel(table("events", rows).lazy(), steps, segments=segments).dropped_out
    assert lost.rows() == [
        (
            "left", "view > cart? > purchase", "cart", "purchase", "web", "Tinkerers",
            START + timedelta(days=0.001),
        ),
        (
            "left again", "view > cart? > purchase", "view", "purchase", "app", None,
            START + timedelta(days=5),
        ),
    ]  # fmt: skip


def test_customers_take_steps_within_the_window_and_only_whole_windows_count() -> None:
    rows = [
        event("in time", "i", "view", 0),
        event("in time", "i", "purchase", 6),
        event("late", "i", "view", 0),
        event("late", "i", "purchase", 8),
        event("open", "i", "view", 15),
        event("open", "i", "purchase", 16),
        event("other", "i", "search", 20),
    ]
    found = funnel(table("events", rows).lazy(), ("view", "purchase"), by="customer", window_days=7)
    assert found.steps.filter(group="all")["reached"].to_list() == [2, 1]
    assert any("1 customers are left out" in note for note in found.notes)
    whole = funnel(table("events", rows).lazy(), ("view", "purchase"), by="customer", window_days=3)
    assert whole.steps.filter(group="all")["reached"].to_list() == [3, 1]


def test_the_period_is_that_of_the_first_step() -> None:
    rows = [event("a", "i", kind, day) for day in (0, 5, 9) for kind in ("view", "purchase")]
    period = {"since": START + timedelta(days=2), "until": START + timedelta(days=9)}
    for by in ("session", "customer"):
        found = funnel(table("events", rows).lazy(), ("view", "purchase"), by=by, window_days=1, **period)
        assert found.steps.filter(group="all")["reached"].to_list() == [1, 1]


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (("view", "basket"), r"no event is called 'basket'; known steps: cart, purchase, search, view"),
        (("view", ""), "no event is called ''"),
        (("view", "view"), "the step 'view' is named twice"),
        (("view", "view?", "cart"), "the step 'view' is named twice"),
        (("view",), "at least two steps"),
        ((), "at least two steps"),
        (("view?", "cart"), "cannot be optional"),
        (("view", "cart?"), "cannot be optional"),
    ],
)
def test_impossible_steps_are_refused_by_name(steps: tuple[str, ...], told: str) -> None:
    with pytest.raises(BehaviourError, match=told):
        funnel(shop(0).lazy(), steps)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"gap_minutes": 0}, "gap between sessions is 0"),
        ({"gap_minutes": float("nan")}, "gap between sessions is nan"),
        ({"by": "visit"}, "by session or by customer, not by 'visit'"),
        ({"by": "customer", "window_days": -1.0}, "window is -1.0 days"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(BehaviourError, match=told):
        funnel(shop(0).lazy(), ("view", "cart"), **settings)


def test_no_events_are_an_error_that_says_so() -> None:
    with pytest.raises(BehaviourError, match="known steps: none, the events table has no such rows"):
        funnel(table("events", []).lazy(), ("view", "purchase"))


def test_a_period_in_which_nobody_begins_is_an_error() -> None:
    rows = table("events", [event("a", "i", "view", 0), event("a", "i", "purchase", 1)]).lazy()
    with pytest.raises(BehaviourError, match="no session takes the first step, 'view', in this period"):
        funnel(rows, ("view", "purchase"), since=START + timedelta(days=2))
    with pytest.raises(BehaviourError, match=r"no customer takes .* 7 days are not over at the end"):
        funnel(rows, ("view", "purchase"), by="customer")


def test_a_session_goes_on_up_to_the_gap_and_through_a_login() -> None:
    rows = [
        event(None, "i", "view", 0, session_id="s1"),
        event("a", "i", "cart", 20 * MINUTE, session_id="s1"),
        event("a", "i", "purchase", 50 * MINUTE),
        event("a", "i", "view", 81 * MINUTE),
        event(None, "i", "view", 0, session_id="shared"),
        event("b", "i", "view", 0, session_id="shared"),
        event("c", "i", "view", 0, session_id="shared"),
        event(None, "i", "view", 0),
        event("a", "i", "return", 60 * MINUTE),
        event("a", None, "message", 60 * MINUTE),
    ]
    found = sessions(table("events", rows).lazy(), 30)
    spans = found.rows.group_by("session").agg(pl.len(), pl.col("customer_id").first()).sort("session")
    assert spans.select("customer_id", "len").rows() == [("a", 3), ("a", 1), ("b", 1), ("c", 1), (None, 1)]
    assert found.num_sessions == 5
    assert found.notes == (
        "a session ends with a pause of more than 30 minutes",
        "1 events without a customer count to the only customer of their session_id",
        "1 events have neither a customer nor a session_id and are left out",
    )
