"""The scores of the demo against slow, obvious counting."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from shopsight.training.demo.run import DemoOutcome
from shopsight.training.evaluation.planted import (
    Row,
    bad_rows_row,
    experiment_row,
    funnel_row,
    identity_row,
    labels_row,
    recall_at_k,
)


def test_recall_divides_by_what_could_be_found() -> None:
    assert recall_at_k([["a", "b", "c"], ["x"]], [{"a", "c", "d"}, {"y"}], k=2) == pytest.approx(0.25)


def test_an_account_that_ingest_lost_counts_as_missed() -> None:
    truth = pl.DataFrame({"source": ["w"] * 3, "source_id": ["1", "2", "3"], "person_id": [7, 7, 7]})
    identities = pl.DataFrame(
        {"source": ["w"] * 2, "source_id": ["1", "2"], "customer_id": ["c1", "c1"], "valid_to": [None, None]}
    )
    row = identity_row(truth, identities)
    assert not row.passed and "recall 0.3333" in row.found and "precision 1.0000" in row.found


def test_every_bad_row_and_no_good_one() -> None:
    planted = pl.DataFrame({"file": ["a", "a"], "row": [3, 9], "reason": ["duplicate", "duplicate"]})
    assert bad_rows_row(planted, planted).passed
    assert not bad_rows_row(planted, planted.head(1)).passed
    extra = pl.concat([planted, pl.DataFrame({"file": ["a"], "row": [4], "reason": ["x"]})])
    assert not bad_rows_row(planted, extra).passed


def test_labels_and_effect_state_the_bar() -> None:
    assert labels_row("intent", ["a", "b"], ["a", "b"], 0.9).passed
    assert not labels_row("intent", ["a", "b"], ["a", "a"], 0.9).passed
    assert experiment_row(0.02, 0.03, 0.01, 0.05).passed
    assert not experiment_row(0.02, 0.03, 0.021, 0.05).passed


@pytest.mark.parametrize(
    ("channel", "since", "passed"),
    [
        ("web", date(2026, 5, 4), True),
        ("web", date(2026, 4, 27), True),
        ("web", date(2026, 4, 20), False),
        ("app", date(2026, 5, 4), False),
    ],
)
def test_a_change_of_the_funnel_is_found_within_a_week(channel: str, since: date, passed: bool) -> None:
    found = {"channel": [channel], "step": ["purchase"], "since": [since], "before": [0.5], "after": [0.56]}
    row = funnel_row("web", "purchase", date(2026, 5, 6), pl.DataFrame(found))
    assert row.passed is passed and row.needs_size
    assert ("since the week of" in row.found) is (channel == "web")


def test_what_needs_a_larger_shop_counts_only_where_it_is_judged() -> None:
    missed = Row("segments", "≥ .6", ".5", passed=False, needs_size=True)
    for judged, passed in ((True, False), (False, True)):
        outcome = DemoOutcome((replace(missed, judged=judged),), "1", Path("report.html"))
        assert outcome.passed is passed and outcome.as_dict()["rows"][0]["judged"] is judged
    never = Row("bad rows", "all", "none", passed=False)
    assert not DemoOutcome((never, replace(missed, judged=False)), "1", Path("report.html")).passed
