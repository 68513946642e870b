"""Figures over nothing are None with a reason, in every function that measures."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from shopsight.training.evaluation.bootstrap import interval, ratio_interval
from shopsight.training.evaluation.classification import auc
from shopsight.training.evaluation.undefined import share, without_nan
from shopsight.training.language.abstention import figures as abstention_figures
from shopsight.training.language.metrics import (
    accuracy,
    area_under_roc,
    calibration_error,
    macro_f1,
    micro_f1,
)

NOTHING = np.zeros(0, dtype=np.int64)
NO_SCORE = np.zeros(0)
NOBODY = np.zeros(0, dtype=bool)


def test_nan_becomes_none_and_an_interval_says_why() -> None:
    figures = {
        "a": {"value": math.nan, "low": math.nan, "high": math.nan, "n": 0},
        "b": [math.nan, 1.0],
        "c": 2,
    }
    told = without_nan(figures, "nobody wrote")
    assert told == {
        "a": {"value": None, "low": None, "high": None, "n": 0, "reason": "nobody wrote"},
        "b": [None, 1.0],
        "c": 2,
    }
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize(
    "figure",
    [
        accuracy(NOTHING, NOTHING)["value"],
        macro_f1(NOTHING, NOTHING),
        micro_f1(np.zeros((0, 3), bool), np.zeros((0, 3), bool)),
        calibration_error(NOBODY, NO_SCORE),
        area_under_roc(np.ones(3), NO_SCORE),
        share(NOBODY),
    ],
)
def test_measures_of_nothing_are_not_a_number(figure: float) -> None:
    assert math.isnan(figure)


@pytest.mark.parametrize("happened", [NOBODY, np.ones(4, bool), np.zeros(4, bool)])
def test_one_class_has_no_area_under_the_curve(happened: np.ndarray) -> None:
    assert auc(np.linspace(0, 1, len(happened)), happened) is None


def test_intervals_of_nothing_carry_the_reason() -> None:
    for found in (interval(NO_SCORE, seed=0), ratio_interval(NO_SCORE, NO_SCORE, seed=0)):
        assert found["value"] is None and "nobody" in found["reason"]
    assert ratio_interval(np.ones(3), np.zeros(3), seed=0)["reason"] == "what it is compared with is 0"


def test_a_rule_that_answers_nobody_has_no_accuracy_of_answers() -> None:
    from shopsight.serving.routing.scope import Abstention

    rule = Abstention("confidence", 2.0, 1.0)
    told = without_nan(
        abstention_figures(rule, np.array([0.2, 0.9]), np.array([True, False]), NO_SCORE), "none"
    )
    assert told["accuracy_of_answered"] is None and told["coverage"] == 0.0
