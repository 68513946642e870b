"""The scores of the demo against slow, obvious counting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from shopsight.training.demo.run import DemoOutcome
from shopsight.training.evaluation.planted import (
    Row,
    bad_rows_row,
    experiment_row,
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


def test_what_needs_a_larger_shop_counts_only_where_it_is_judged() -> None:
    missed = Row("segments", "≥ .6", ".5", passed=False, needs_size=True)
    for judged, passed in ((True, False), (False, True)):
        outcome = DemoOutcome((replace(missed, judged=judged),), "1", Path("report.html"))
        assert outcome.passed is passed and outcome.as_dict()["rows"][0]["judged"] is judged
    never = Row("bad rows", "all", "none", passed=False)
    assert not DemoOutcome((never, replace(missed, judged=False)), "1", Path("report.html")).passed
