"""The value family: forecasts of purchases, spending and churn."""

from __future__ import annotations

from shopsight.training.artifacts.family import Family
from shopsight.training.value import ValueConfig, evaluate, train

FAMILY = Family(
    name="value",
    config=ValueConfig,
    requires=("events",),
    requires_purchases=True,
    train=train,
    evaluate=evaluate,
    export=None,
    served_in="profiles",
    erasure="rows",
)
