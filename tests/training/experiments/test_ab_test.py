"""A/B analysis: the interval's coverage, broken assignments, and who is counted."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopsight.training.evaluation.proportions import wilson
from shopsight.training.experiments.ab_test import ExperimentError, analyse, compare, sample_ratio_p
from tests.training.small_shop import START, event, write_shop


def _shown(customer: str | None, arm: str, day: float = 0.0, experiment: str = "banner") -> dict[str, Any]:
    time = START + timedelta(days=day)
    return {"request_id": f"{customer}{day}", "customer_id": customer, "experiment": experiment, "arm": arm,
            "timestamp": time}  # fmt: skip


def test_wilson_and_newcombe_give_the_published_figures() -> None:
    # Newcombe (1998), Statistics in Medicine 17, tables of methods 3 and 10: 56/70 against 48/80.
    assert wilson(56, 70) == pytest.approx((0.6918, 0.8769), abs=2e-3)
    found = compare("new", (56, 70), "old", (48, 80))
    assert (found.effect, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    control, treated = rng.binomial(400, 0.05, 4000), rng.binomial(600, 0.08, 4000)
    found = [compare("t", (int(t), 600), "c", (int(c), 400)) for t, c in zip(treated, control, strict=True)]
    held = np.mean([one.low <= 0.03 <= one.high for one in found])
    assert 0.94 <= held <= 0.965


def test_customers_count_once_and_only_after_they_were_exposed(tmp_path: Path) -> None:
    exposures = [_shown(f"c{i}", "control" if i % 2 else "treatment", day=5.0) for i in range(8)]
    exposures += [_shown("c0", "treatment", day=7.0), _shown(None, "control", day=6.0)]
    exposures += [_shown("both", "control"), _shown("both", "treatment", day=1.0)]
    events = [
        event("c0", "x", "purchase", 6.0), event("c0", "x", "purchase", 8.0),  # converts once
        event("c2", "x", "purchase", 5.0),  # at the very time
        event("c4", "x", "purchase", 4.9),  # before
        event("c6", "x", "view", 6.0), event("c1", "x", "purchase", 40.0),
        event("c3", "x", "purchase", 6.0, channel="store"), event("both", "x", "purchase", 6.0),
        event("never exposed", "x", "purchase", 6.0),
    ]  # fmt: skip
    workspace = write_shop(tmp_path, events, exposures=exposures)
    found = analyse(workspace)
    assert {a.name: (a.num_converted, a.num_exposed) for a in found.arms} == {
        "control": (2, 4), "treatment": (2, 4),
    }  # fmt: skip
    assert (found.num_crossed, found.num_anonymous) == (1, 1)
    assert found.comparisons[0].control == "control"
    online = analyse(workspace, "banner", channel="web", window_days=10)
    assert {a.name: a.num_converted for a in online.arms} == {"control": 0, "treatment": 2}
    assert "channel web within 10 days" in online.metric
    assert online.effect == pytest.approx(0.5)
    assert online.comparisons[0].lift is None


def test_arms_of_the_wrong_size_are_called_broken(tmp_path: Path) -> None:
    exposures = [_shown(f"c{i}", "control" if i < 700 else "treatment") for i in range(1200)]
    workspace = write_shop(tmp_path, [event("c1", "x", "purchase", 1.0)], exposures=exposures)
    assert not analyse(workspace).sample_ratio_ok
    assert analyse(workspace, planned={"control": 7, "treatment": 5}).sample_ratio_ok
    with pytest.raises(ExperimentError, match="control"):
        analyse(workspace, planned={"control": 1, "other": 1})


def test_the_sample_ratio_raises_few_false_alarms() -> None:
    rng = np.random.default_rng(1)
    first = rng.binomial(2000, 0.5, 3000)
    chances = np.array([sample_ratio_p({"a": int(n), "b": 2000 - int(n)}) for n in first])
    assert np.mean(chances < 0.05) == pytest.approx(0.05, abs=0.02)


def test_what_cannot_be_analysed_is_refused_with_what_there_is(tmp_path: Path) -> None:
    bought = [event("c0", "x", "purchase", 1.0)]
    with pytest.raises(ExperimentError, match="no experiment; ingest"):
        analyse(write_shop(tmp_path / "none", bought))
    two = [_shown("c0", "a"), _shown("c1", "b"), _shown("c2", "a", experiment="other")]
    workspace = write_shop(tmp_path / "two", bought, exposures=two)
    with pytest.raises(ExperimentError, match="banner, other"):
        analyse(workspace)
    with pytest.raises(ExperimentError, match="no experiment 'misspelt'"):
        analyse(workspace, "misspelt")
    with pytest.raises(ExperimentError, match="1 arm"):
        analyse(workspace, "other")
    assert analyse(workspace, "banner").comparisons[0].control == "a"
