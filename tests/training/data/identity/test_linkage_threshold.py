"""The threshold of linkage: chosen by what the model expects, which must be near what is true."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.person_records import person_records
from shopsight.training.data.identity.linkage import (
    LinkageConfig,
    choose_threshold,
    curve,
    estimated_curve,
    link,
)
from shopsight.training.data.identity.linkage.threshold import CAREFUL, THRESHOLDS
from shopsight.training.data.identity.linkage_page import write_linkage_report


def test_the_expected_curve_is_that_of_the_probabilities() -> None:
    probability = np.array([0.3, 0.995, 0.6, 0.004, 0.6])
    expected = estimated_curve(probability)
    for threshold, precision, recall, f1, num in expected.iter_rows():
        kept = [p for p in probability.tolist() if p >= threshold]
        assert num == len(kept)
        assert precision == pytest.approx(sum(kept) / len(kept) if kept else 1.0)
        assert recall == pytest.approx(sum(kept) / sum(probability.tolist()))
        assert f1 == pytest.approx(2 * precision * recall / max(precision + recall, 1e-12))
    assert estimated_curve(np.zeros(0))["precision"].to_list() == [1.0] * len(THRESHOLDS)


def test_the_choice_keeps_to_the_precision_that_was_asked() -> None:
    probability = np.concatenate([np.full(900, 0.9999999), np.full(100, 0.93), np.full(60, 0.4)])
    careful = choose_threshold(probability, min_precision=0.9999)
    assert careful.threshold > 0.93 and "at least 0.9999" in careful.reason
    bold = choose_threshold(probability, min_precision=0.98)
    assert 0.4 < bold.threshold <= 0.93
    assert choose_threshold(np.full(300, 0.7), 0.999).threshold == THRESHOLDS[-1]
    few = choose_threshold(probability[:50], 0.98)
    assert few.threshold == CAREFUL and "too few" in few.reason


def test_what_is_expected_is_near_the_truth() -> None:
    records, truth = person_records(8_000, household_share=0.05, seed=3)
    linkage = link(records)
    real = curve(linkage, truth).join(linkage.choice.curve, on="threshold", suffix="_expected")
    sure = real.filter(pl.col("threshold") >= 0.9)
    assert (sure["precision"] - sure["precision_expected"]).abs().max() < 0.003  # type: ignore[operator]
    assert (sure["recall"] - sure["recall_expected"]).abs().max() < 0.02  # type: ignore[operator]
    at = real.filter(pl.col("threshold") == linkage.choice.threshold)
    assert at["precision"].item() >= 0.999 and at["f1"].item() >= real["f1"].max() - 0.01  # type: ignore[operator]
    fixed = link(records, LinkageConfig(threshold=0.5))
    assert fixed.choice.threshold == 0.5 and "configuration" in fixed.choice.reason


def test_the_page_shows_the_curve_the_point_and_no_value_of_a_record(tmp_path: Path) -> None:
    records, truth = person_records(3_000, seed=4)
    linkage = link(records)
    page = write_linkage_report(tmp_path / "reports", linkage, truth).read_text()
    content = json.loads((tmp_path / "reports" / "linkage.json").read_text())
    assert content["chosen"]["threshold"] == linkage.choice.threshold
    assert content["chosen"]["reason"] == linkage.choice.reason and linkage.choice.reason in page
    assert len(content["expected"]) == len(content["truth"]) == len(THRESHOLDS)
    assert "<svg" in page and 'class="chosen"' in page
    named = {row["field"] for row in content["weights"]}
    assert {"given", "family", "birth", "email"} <= named and "gov_id" not in named
    everything = page + json.dumps(content)
    assert not any(mail in everything for mail in records["email"].drop_nulls().to_list())
    assert not any(phone in everything for phone in records["phone"].drop_nulls().to_list())


def test_nobody_to_join_is_a_page_too(tmp_path: Path) -> None:
    linkage = link(pl.DataFrame({"email": ["a@x.example"], "given_name": ["Ann"]}))
    assert "1 accounts are 1 people" in write_linkage_report(tmp_path, linkage).read_text()
